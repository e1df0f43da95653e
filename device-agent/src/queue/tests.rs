//! Order, cancelling, places, and agents that share a folder.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Far beyond what anything here takes: reached only by a failing test.
const FOR_EVER: Duration = Duration::from_secs(20);

fn deaf(_: Activity) {}

async fn turn(queue: &Queue, client: &str) -> Turn {
    tokio::time::timeout(FOR_EVER, queue.turn(client, "measure", &Cancel::never(), &deaf))
        .await
        .expect("the turn comes")
        .unwrap()
}

fn names(queue: &Queue) -> Vec<String> {
    queue.turns().into_iter().map(|turn| turn.client).collect()
}

async fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < FOR_EVER, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn turns_come_in_the_order_of_asking_and_whoever_waits_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::new(folder.path());
    let first = turn(&queue, "first").await;
    assert!(!first.is_awaited());
    let order = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (number, client) in ["second", "third", "fourth"].into_iter().enumerate() {
        let (line, order, heard) = (queue.clone(), Arc::clone(&order), Arc::clone(&heard));
        tasks.push(tokio::spawn(async move {
            let report = |activity| heard.lock().unwrap().push((client, activity));
            let turn = line.turn(client, "put", &Cancel::never(), &report).await.unwrap();
            order.lock().unwrap().push(client);
            drop(turn);
        }));
        until("it stands in line", || queue.turns().len() == number + 2).await;
    }
    assert_eq!(names(&queue), ["first", "second", "third", "fourth"]);
    assert_eq!((queue.turns()[0].verb.as_str(), queue.turns()[3].verb.as_str()), ("measure", "put"));
    assert!(first.is_awaited());
    let told = |client, ahead| {
        let waiting = Activity::Waiting { ahead, client: "first".into(), since_s: 0 };
        heard.lock().unwrap().contains(&(client, waiting))
    };
    until("they are told", || told("second", 1) && told("third", 2) && told("fourth", 3)).await;
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["second", "third", "fourth"]);
    assert!(queue.turns().is_empty());
}

#[tokio::test]
async fn whoever_cancels_or_is_lost_leaves_the_line_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::new(folder.path());
    let first = turn(&queue, "first").await;
    let (canceller, cancel) = Cancel::pair();
    let line = queue.clone();
    let cancelled = tokio::spawn(async move { line.turn("cancels", "measure", &cancel, &deaf).await });
    let line = queue.clone();
    let lost = tokio::spawn(async move { line.turn("lost", "measure", &Cancel::never(), &deaf).await });
    until("both wait", || queue.turns().len() == 3).await;
    canceller.cancel();
    assert!(matches!(cancelled.await.unwrap(), Err(Failure::Cancelled)));
    // As a session does whose client is gone.
    lost.abort();
    assert!(lost.await.is_err());
    assert_eq!(names(&queue), ["first"]);
    drop(first);
    drop(turn(&queue, "next").await);
}

#[tokio::test]
async fn there_are_so_many_places_and_one_too_many_hears_who_has_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::new(folder.path());
    let first = turn(&queue, "first").await;
    let waiting: Vec<_> = (1..limits::QUEUE)
        .map(|_| {
            let line = queue.clone();
            tokio::spawn(
                async move { line.turn("waits", "measure", &Cancel::never(), &deaf).await.map(drop) },
            )
        })
        .collect();
    until("all places are taken", || queue.turns().len() == limits::QUEUE).await;
    let refused = queue.turn("late", "measure", &Cancel::never(), &deaf).await.unwrap_err();
    assert_eq!(refused, Failure::Busy { client: "first".into(), since_s: 0 });
    drop(first);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    drop(turn(&queue, "late").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_of_one_folder_take_turns_however_eager_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let (eager, patient) = (Queue::new(folder.path()), Queue::new(folder.path()));
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
    let alone = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&alone);
    let task = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let _turn = turn(&eager, "eager").await;
            assert!(!theirs.swap(true, Ordering::SeqCst), "two at once");
            tokio::time::sleep(Duration::from_millis(30)).await;
            theirs.store(false, Ordering::SeqCst);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    until("it measures", || rounds.load(Ordering::Relaxed) > 0).await;
    let heard = Mutex::new(Vec::new());
    for _ in 0..6 {
        // Who asks in the blink between two of its turns, or while it sleeps after a lost one, meets nobody.
        until("the other one has it", || alone.load(Ordering::SeqCst)).await;
        let before = rounds.load(Ordering::Relaxed);
        let report = |activity| heard.lock().unwrap().push(activity);
        let never = Cancel::never();
        let asked = patient.turn("patient", "stage", &never, &report);
        let turn = tokio::time::timeout(FOR_EVER, asked).await.expect("not starved").unwrap();
        assert!(!alone.swap(true, Ordering::SeqCst), "two at once");
        // The one that was running, and at most one that was faster at the files.
        let between = rounds.load(Ordering::Relaxed) - before;
        assert!(between <= 2, "{between} turns of the other one came first");
        alone.store(false, Ordering::SeqCst);
        drop(turn);
    }
    let named = |activity: &Activity| matches!(activity, Activity::Waiting { ahead: 1, client, .. } if client == "eager");
    assert!(heard.lock().unwrap().iter().any(named), "it says who: {heard:?}");
    stop.store(true, Ordering::Relaxed);
    task.await.unwrap();
}

#[tokio::test]
async fn a_data_folder_that_is_gone_is_no_panic() {
    let lost = Queue::new(Path::new("/nonexistent/folder"));
    let failed = lost.turn("x", "measure", &Cancel::never(), &deaf).await;
    assert!(matches!(failed, Err(Failure::Failed(text)) if text.contains("measuring.lock")));
    assert!(lost.turns().is_empty());
}
