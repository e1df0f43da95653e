//! The store against restarts, damage, full disks and disks that stall.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const NO_RESERVE: u64 = 0;

fn store(quota_bytes: u64) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::with_bounds(folder.path(), quota_bytes, NO_RESERVE).unwrap();
    (folder, store)
}

fn put(store: &Store, blob: &[u8]) -> Digest {
    let digest = Digest::of(blob);
    assert_eq!(store.query(&digest, blob.len() as u64), Ok(0));
    assert_eq!(store.put_chunk(&digest, 0, blob), Ok(blob.len() as u64));
    digest
}

fn is_here(store: &Store, digest: &Digest) -> bool {
    store.pin(digest).unwrap().is_some()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Failed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transfer_goes_on_after_the_agent_died() {
    let (folder, first) = store(1000);
    let blob = b"hello, board";
    let digest = Digest::of(blob);
    assert_eq!(first.query(&digest, 12), Ok(0));
    assert_eq!(first.put_chunk(&digest, 0, &blob[..5]), Ok(5));
    assert!(!is_here(&first, &digest));
    drop(first);

    let second = Store::open(folder.path()).unwrap();
    assert_eq!(second.query(&digest, 12), Ok(5));
    assert_eq!(second.put_chunk(&digest, 3, &blob[3..8]), Ok(8), "a piece sent again");
    assert_eq!(second.put_chunk(&digest, 8, &blob[8..]), Ok(12));
    assert_eq!(fs::read(second.pin(&digest).unwrap().unwrap().path()).unwrap(), blob);
    assert_eq!(second.query(&digest, 12), Ok(12));
    assert_eq!(second.put_chunk(&digest, 8, &blob[8..]), Ok(12), "the last piece sent again");
}

#[test]
fn pieces_out_of_order_are_refused() {
    let (_folder, store) = store(1000);
    let digest = Digest::of(b"abcdef");
    assert!(refused(store.put_chunk(&digest, 0, b"abc")).contains("not announced"));
    store.query(&digest, 6).unwrap();
    assert!(refused(store.put_chunk(&digest, 2, b"c")).contains("expected offset 0, got 2"));
    assert!(refused(store.put_chunk(&digest, 0, b"abcdefg")).contains("ends at 7"));
    assert!(refused(store.put_chunk(&digest, u64::MAX, b"a")).contains("ends at"));
    assert!(refused(store.query(&digest, 0)).contains("expected 1 to"));
    assert!(refused(store.query(&digest, 1001)).contains("expected 1 to 1000"));
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let (_folder, store) = store(1000);
    let digest = Digest::of(b"abcdef");
    store.query(&digest, 6).unwrap();
    assert!(failed(store.put_chunk(&digest, 0, b"abcdeX")).contains("arrived with digest"));
    assert!(!is_here(&store, &digest));
    assert_eq!(store.query(&digest, 6), Ok(0), "it starts again");
    assert_eq!(put(&store, b"xyz"), Digest::of(b"xyz"));
    assert!(refused(store.query(&Digest::of(b"xyz"), 4)).contains("has 3 bytes, not 4"));
}

#[test]
fn damage_that_happened_while_no_agent_ran_is_found_and_replaced() {
    let damages: [fn(&Path); 3] = [
        |path| fs::write(path, b"Hello, board").unwrap(),
        |path| fs::write(path, b"hello").unwrap(),
        |path| fs::write(path, b"").unwrap(),
    ];
    for damage in damages {
        let (folder, first) = store(1000);
        let digest = put(&first, b"hello, board");
        drop(first);
        damage(&folder.path().join(digest.to_string()));

        let second = Store::open(folder.path()).unwrap();
        assert!(!is_here(&second, &digest), "its wrong bytes are never used");
        put(&second, b"hello, board");
        drop(second);
        damage(&folder.path().join(digest.to_string()));
        let third = Store::open(folder.path()).unwrap();
        assert_eq!(third.query(&digest, 12), Ok(0), "the host is told to send it again");
        assert_eq!(third.put_chunk(&digest, 0, b"hello, board"), Ok(12));
        assert!(is_here(&third, &digest));
        // And one that its user finds damaged.
        third.discard(&digest).unwrap();
        put(&third, b"hello, board");
    }
}

#[test]
fn the_oldest_goes_first_and_pinned_blobs_stay() {
    let (folder, store) = store(10);
    let (old, middle, new) = (put(&store, b"old"), put(&store, b"mid"), put(&store, b"new"));
    let pin = store.pin(&old).unwrap().unwrap();
    let more = put(&store, b"more");
    assert!(!is_here(&store, &middle) && is_here(&store, &new));
    assert_eq!(fs::read(pin.path()).unwrap(), b"old");
    assert!(refused(store.query(&Digest::of(b"12345678"), 8)).contains("no room"));
    drop(pin);
    assert_eq!(store.query(&Digest::of(b"12345678"), 8), Ok(0));
    assert!(!is_here(&store, &more) && !is_here(&store, &old));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "evicted files are gone");
}

#[test]
fn the_order_of_use_outlives_the_agent() {
    let (folder, first) = store(10);
    let digests = [put(&first, b"one"), put(&first, b"two"), put(&first, b"six")];
    drop(first);
    for (digest, seconds) in digests.iter().zip([10, 30, 20]) {
        let file = OpenOptions::new().append(true).open(folder.path().join(digest.to_string())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }
    let second = Store::with_bounds(folder.path(), 10, NO_RESERVE).unwrap();
    put(&second, b"more");
    assert_eq!(digests.map(|digest| is_here(&second, &digest)), [true, false, true]);
}

#[test]
fn a_reserve_stays_free_and_an_upload_that_does_not_fit_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = Store::with_bounds(folder.path(), 1 << 30, u64::MAX).unwrap();
    let digest = Digest::of(b"large");
    let why = refused(full.query(&digest, 1 << 20));
    assert!(why.contains("bytes left") && why.contains("stay free"), "{why}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(full);

    // Announced while there was room, which is gone before it is whole.
    let roomy = Store::with_bounds(folder.path(), 1 << 30, NO_RESERVE).unwrap();
    assert_eq!(roomy.query(&digest, 1 << 20), Ok(0));
    assert_eq!(roomy.put_chunk(&digest, 0, &[0; 1000]), Ok(1000));
    drop(roomy);
    let full = Store::with_bounds(folder.path(), 1 << 30, u64::MAX).unwrap();
    let why = failed(full.put_chunk(&digest, 1000, &[0; 1000]));
    assert!(why.contains("no room for the rest") && why.contains("is removed"), "{why}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(full.room().free_bytes > 0 && full.room().reserve_bytes == u64::MAX);
}

#[test]
fn blobs_give_way_when_the_disk_needs_their_room() {
    let (folder, first) = store(1000);
    put(&first, b"old");
    let pinned = put(&first, b"new");
    let pin = first.pin(&pinned).unwrap();
    assert!(refused(first.make_room(u64::MAX)).contains("bytes left"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "all but the one in use");
    drop(pin);
    assert_eq!(first.make_room(1), Ok(()));
}

#[test]
fn a_disk_that_stalls_at_one_blob_holds_up_nobody_else() {
    let (folder, first) = store(1000);
    let digest = put(&first, b"hello, board");
    drop(first);
    let store = Store::with_bounds(folder.path(), 1000, NO_RESERVE).unwrap();
    // Reading this file does not end before somebody writes into it.
    let path = folder.path().join(digest.to_string());
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || store.pin(&digest).unwrap().is_some())
        })
        .collect();
    while !store.0.lock().has_turn(&digest) {
        std::thread::yield_now();
    }
    let other = put(&store, b"another");
    assert!(is_here(&store, &other));
    assert_eq!(store.query(&other, 7), Ok(7));
    fs::write(&path, b"hello, board").unwrap();
    for thread in stalled {
        assert!(thread.join().unwrap());
    }
}

#[test]
fn two_hosts_that_put_one_blob_at_once_do_not_spoil_it() {
    let (_folder, store) = store(1 << 20);
    let blob: Vec<u8> = (0..100_000_u32).map(|it| it as u8).collect();
    let digest = Digest::of(&blob);
    store.query(&digest, blob.len() as u64).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < blob.len() {
                    let end = (done + 7001).min(blob.len());
                    done = store.put_chunk(&digest, done as u64, &blob[done..end]).unwrap() as usize;
                }
            });
        }
    });
    assert_eq!(fs::read(store.pin(&digest).unwrap().unwrap().path()).unwrap(), blob);
}

#[test]
fn a_pin_outlives_the_blob_it_was_taken_on_without_ending_its_successors() {
    let (_folder, store) = store(10);
    let digest = put(&store, b"one");
    let earlier = store.pin(&digest).unwrap();
    store.discard(&digest).unwrap();
    put(&store, b"one");
    let later = store.pin(&digest).unwrap();
    drop(earlier);
    assert!(refused(store.query(&Digest::of(b"12345678"), 8)).contains("no room"));
    drop(later);
    assert_eq!(store.query(&Digest::of(b"12345678"), 8), Ok(0));
}

#[test]
fn strange_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "a user's notes, longer than the quota").unwrap();
    fs::write(folder.path().join(format!("{}.x.part", Digest::of(b"a"))), "").unwrap();
    let store = Store::with_bounds(folder.path(), 10, NO_RESERVE).unwrap();
    put(&store, b"blob");
    assert!(folder.path().join("notes.txt").exists());
}

proptest! {
    #[test]
    fn any_sequence_of_calls_keeps_the_quota_and_the_names(
        calls in prop::collection::vec((0_u8..6, 0_u64..12, prop::collection::vec(any::<u8>(), 0..6)), 1..40)
    ) {
        let (folder, store) = store(16);
        let blobs: Vec<Vec<u8>> = (1..7).map(|n| (0..n).collect()).collect();
        for (which, offset, garbage) in calls {
            let blob = &blobs[usize::from(which)];
            let digest = Digest::of(blob);
            let _ = store.query(&digest, blob.len() as u64);
            let _ = store.put_chunk(&digest, offset, &garbage);
            let from = usize::try_from(offset).unwrap().min(blob.len());
            let _ = store.put_chunk(&digest, from as u64, &blob[from..]);
        }
        let mut bytes = 0;
        for (digest, blob) in found(folder.path()).unwrap() {
            bytes += blob.whole;
            prop_assert_eq!(store.0.known(&digest).map(|known| known.present), Some(blob.present));
            if blob.is_whole() {
                let file = fs::read(folder.path().join(digest.to_string())).unwrap();
                prop_assert_eq!(Digest::of(&file), digest);
            }
        }
        prop_assert_eq!(bytes, store.0.lock().taken());
        prop_assert!(bytes <= 16);
    }
}
