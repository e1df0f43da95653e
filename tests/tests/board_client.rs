//! The host's client against a real agent process, and against agents that are silent, strange, or suddenly gone.

use n2n::board::{BoardError, Client, Endpoint, Hurdle, LocalProgram, Patience};
use n2n_protocol::handshake::{FRAME_BYTES, FirstFrame, REJECTION, challenge};
use n2n_protocol::{
    Activity, Answer, Call, Digest, Golden, Infeasible, Log, MeasurePlan, VERSION, Version, generator,
};
use n2n_tests::by_hand;
use n2n_tests::candidate::{PIXELS, answers, close, logits, model, plan};
use n2n_tests::scripted::{MAX_BLOB_BYTES, agent, greeting, key, next, say, shake_hands, welcome};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

fn local(data: &Path) -> Endpoint {
    let program = env!("CARGO_BIN_EXE_n2n-agent-under-test").into();
    Endpoint::Local(LocalProgram { program, prefix: vec![], data: data.to_owned() })
}

#[test]
fn a_candidate_without_weights_goes_to_a_local_agent_and_comes_back_as_numbers() {
    let data = tempfile::tempdir().unwrap();
    let mut client = Client::connect(&local(data.path())).unwrap();
    let fingerprint = client.welcome().board.fingerprint;
    assert_eq!(client.probe().unwrap().fingerprint, fingerprint);
    assert!(!client.welcome().board.engines.is_empty());

    let blob = model();
    let mut seen = Vec::new();
    let digest = client.put(&blob, &mut |done, whole| seen.push((done, whole))).unwrap();
    assert_eq!(seen.first(), Some(&(0, blob.len() as u64)));
    assert_eq!(seen.last(), Some(&(blob.len() as u64, blob.len() as u64)));
    seen.clear();
    client.put(&blob, &mut |done, whole| seen.push((done, whole))).unwrap();
    assert_eq!(seen, [(blob.len() as u64, blob.len() as u64)], "nothing is sent twice");

    let input = generator::input(3, PIXELS);
    let expected = logits(&input);
    let inferred = client.infer(&answers(digest), &[input.clone(), input]).unwrap();
    assert!(
        inferred.len() == 2 && inferred.iter().all(|row| close(row, &expected)),
        "{inferred:?} {expected:?}"
    );

    let golden = Golden { input_seed: 3, logits: expected, tolerance: 1e-3 };
    let mut signs = 0;
    let measured =
        client.measure(&MeasurePlan { golden: Some(golden), ..plan(digest) }, &mut |_| signs += 1).unwrap();
    assert_eq!((measured.model, measured.board, measured.threads), (digest, fingerprint, 1));
    assert!(measured.latency.median_ns > 0 && measured.samples_ns.len() == 2);
    assert!(measured.memory.peak_heap.is_some_and(|bytes| bytes > 10_000), "{:?}", measured.memory);
    assert!(measured.golden_difference.is_some_and(|difference| difference < 1e-3));

    let too_small = MeasurePlan { max_memory_bytes: 3 << 20, ..plan(digest) };
    let infeasible = client.measure(&too_small, &mut |_| {}).unwrap_err();
    assert!(matches!(infeasible, BoardError::Infeasible(Infeasible::OutOfMemory { .. })), "{infeasible}");
    let unknown = client.measure(&plan(Digest([9; 32])), &mut |_| {}).unwrap_err();
    assert!(matches!(unknown, BoardError::Refused { .. }), "{unknown}");
    let nonsense = client.put(b"this is no model", &mut |_, _| {}).unwrap();
    let failed = client.measure(&plan(nonsense), &mut |_| {}).unwrap_err();
    assert!(matches!(failed, BoardError::Failed(_)), "{failed}");
    assert!(client.status().unwrap().slots.unwrap().active.is_none());
    assert!(client.rollback(None).is_err());
    assert!(!client.log_tail(10, Log::Agent).unwrap().is_empty());
    assert!(client.is_connected(), "none of this was the link's fault");
}

#[test]
fn a_killed_agent_is_a_fault_and_reconnecting_finds_everything_again() {
    let data = tempfile::tempdir().unwrap();
    let mut client = Client::connect(&local(data.path())).unwrap();
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    let first = client.process_id().unwrap();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    });
    let endless =
        MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 5_000, ..plan(digest) };
    let fault = client.measure(&endless, &mut |_| {}).unwrap_err();
    killer.join().unwrap();
    assert!(matches!(fault, BoardError::Unavailable { .. }), "{fault}");
    assert!(matches!(client.probe(), Err(BoardError::Unavailable { .. })), "no link until reconnect");
    client.reconnect().unwrap();
    assert_ne!(client.process_id(), Some(first));
    assert_eq!(client.put(&model(), &mut |done, whole| assert_eq!(done, whole)).unwrap(), digest);
    assert!(client.measure(&plan(digest), &mut |_| {}).is_ok());
}

#[test]
fn a_flag_cancels_a_measurement_and_the_board_is_free_again() {
    let data = tempfile::tempdir().unwrap();
    let mut client = Client::connect(&local(data.path())).unwrap();
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    let flag = client.cancel_flag();
    let setter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        flag.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let endless =
        MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 5_000, ..plan(digest) };
    assert_eq!(client.measure(&endless, &mut |_| {}), Err(BoardError::Cancelled));
    let asked = setter.join().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    client.cancel_flag().store(false, Ordering::Relaxed);
    assert!(client.measure(&plan(digest), &mut |_| {}).is_ok());
}

#[test]
fn two_agents_on_one_machine_take_turns_say_who_and_the_slots_have_one_owner() {
    let data = tempfile::tempdir().unwrap();
    let mut first = Client::connect(&local(data.path())).unwrap();
    let mut second = Client::connect(&local(data.path())).unwrap();
    let status = second.status().unwrap();
    assert_eq!((status.slots, status.owner), (None, first.process_id()));
    assert!(matches!(second.rollback(None), Err(BoardError::Refused { .. })));
    let digest = first.put(&model(), &mut |_, _| {}).unwrap();
    second.put(&model(), &mut |_, _| {}).unwrap();
    let flag = first.cancel_flag();
    let measuring = std::thread::spawn(move || {
        let endless =
            MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 5_000, ..plan(digest) };
        let outcome = first.measure(&endless, &mut |_| {});
        (first, outcome)
    });
    std::thread::sleep(Duration::from_millis(300));
    let mut heard = None;
    let measured = second.measure(&plan(digest), &mut |now| {
        if let Activity::Waiting { ahead, client, .. } = now.activity {
            heard.get_or_insert((ahead, client));
            flag.store(true, Ordering::Relaxed);
        }
    });
    assert!(measured.is_ok(), "{measured:?}");
    let (ahead, client) = heard.expect("it was told that it waits");
    assert!(ahead == 1 && client.contains(&std::process::id().to_string()), "{ahead} ahead: {client}");
    assert_eq!(measuring.join().unwrap().1, Err(BoardError::Cancelled));
}

#[test]
fn nothing_is_left_of_a_local_agent_when_its_client_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let client = Client::connect(&local(data.path())).unwrap();
    let process = client.process_id().unwrap();
    assert!(Path::new(&format!("/proc/{process}")).exists());
    drop(client);
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

#[test]
fn a_program_that_is_no_agent_is_an_unavailable_board() {
    let data = tempfile::tempdir().unwrap();
    for program in ["/bin/true", "/bin/echo", "/nonexistent/agent"] {
        let endpoint = Endpoint::Local(LocalProgram {
            program: program.into(),
            prefix: vec![],
            data: data.path().into(),
        });
        let error = Client::connect(&endpoint).err().unwrap();
        assert!(matches!(error, BoardError::Unavailable { .. }), "{program}: {error}");
    }
}

// Agents by hand, to be as bad as they can be.

fn brief() -> Patience {
    Patience {
        connect: Duration::from_millis(500),
        handshake: Duration::from_millis(300),
        silence: Duration::from_millis(300),
        cancel: Duration::from_millis(300),
        reconnect_tries: 3,
        reconnect_pause: Duration::from_millis(20),
        ..Patience::default()
    }
}

fn refused_by(endpoint: &Endpoint) -> BoardError {
    let began = Instant::now();
    let error = Client::connect_with(endpoint, brief()).err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{error} after {:?}", began.elapsed());
    error
}

#[test]
fn agents_that_cannot_be_greeted_are_told_apart() {
    let silent = agent(|_, stream| std::mem::forget(stream));
    assert!(
        matches!(refused_by(&silent), BoardError::Unavailable { reason, .. } if reason.contains("too long"))
    );
    let hurdle = |error: &BoardError| match error {
        BoardError::Unreachable { hurdle, .. } => Some(*hurdle),
        _ => None,
    };
    let closing = agent(|_, stream| drop(stream));
    assert_eq!(hurdle(&refused_by(&closing)), Some(Hurdle::NoAgent));
    // An agent that a crowd shuts: the challenge came, and then the end.
    let crowded = agent(|_, mut stream| {
        let _ = stream.read_exact(&mut [0; FRAME_BYTES]);
        let _ = stream.write_all(&challenge().unwrap());
    });
    let error = refused_by(&crowded);
    assert!(
        hurdle(&error) == Some(Hurdle::Crowd) && error.hint().unwrap().contains("the board is on"),
        "{error}"
    );
    let web = agent(|_, mut stream| {
        let _ =
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        std::mem::forget(stream);
    });
    let error = refused_by(&web);
    assert!(hurdle(&error) == Some(Hurdle::NoAgent) && error.to_string().contains("not a peer"), "{error}");
    let other_key = agent(|_, mut stream| {
        let _ = stream.read_exact(&mut [0; FRAME_BYTES]);
        let _ = stream.write_all(&challenge().unwrap());
        let _ = stream.read_exact(&mut [0; FRAME_BYTES]);
        let _ = stream.write_all(&REJECTION);
    });
    let error = refused_by(&other_key);
    assert!(matches!(error, BoardError::WrongKey { .. }) && error.hint().is_some(), "{error}");
    assert!(error.to_string().contains(&key().id().to_string()), "{error}");
    let impostor = agent(|_, mut stream| {
        let _ = stream.read_exact(&mut [0; FRAME_BYTES]);
        let _ = stream.write_all(&challenge().unwrap());
        let _ = stream.read_exact(&mut [0; FRAME_BYTES]);
        let mut answer = [9; FRAME_BYTES];
        answer[..2].copy_from_slice(&[0, 48]);
        let _ = stream.write_all(&answer);
    });
    assert!(matches!(refused_by(&impostor), BoardError::WrongKey { .. }));
    let newer = agent(|_, mut stream| {
        let mut channel = shake_hands(&mut stream).unwrap();
        let hello = next(&mut stream, &mut channel).unwrap();
        let answer = welcome(Version { major: 9, minor: 3 }, 1);
        say(&mut stream, &mut channel, hello.request_id, Ok(answer));
    });
    assert!(matches!(refused_by(&newer), BoardError::Version { reason, .. } if reason.contains("9.3")));
    let nobody = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 1, key: key() };
    let error = refused_by(&nobody);
    assert!(hurdle(&error) == Some(Hurdle::Port) && error.hint().unwrap().contains("--listen"), "{error}");
    let unnamed = Endpoint::Tcp { host: "no-such-board.invalid".to_owned(), port: 1, key: key() };
    let error = Client::connect_with(&unnamed, brief()).err().unwrap();
    assert!(hurdle(&error) == Some(Hurdle::Name) && error.hint().unwrap().contains("IP address"), "{error}");
}

#[test]
fn an_agent_of_protocol_1_is_told_by_its_own_words() {
    // As its source had it: fifty bytes that are a handshake of the right length, or the end.
    let old = agent(|_, mut stream| {
        let mut frame = [0; FRAME_BYTES];
        stream.read_exact(&mut frame).unwrap();
        if !matches!(FirstFrame::of(&frame), Ok(FirstFrame::OldHandshake)) {
            return;
        }
        let mut channel = by_hand::respond_as_1_0(&mut stream, &key(), &frame).unwrap();
        let hello = by_hand::receive(&mut stream, &mut channel).unwrap().unwrap();
        // Request 1, verb 0, and the host's version 2.1.
        assert_eq!(hello[..4], [1, 0, 2, 1]);
        let words = b"protocol 1.0 (schema c71683f0cf8f5838) here, 2.1 there";
        let refusal = [&[1, 1, 4, words.len() as u8][..], words].concat();
        by_hand::send(&mut stream, &mut channel, &refusal).unwrap();
    });
    let error = refused_by(&old);
    assert!(
        matches!(&error, BoardError::Version { reason, .. } if reason.contains("1.0") && reason.contains("2.1")),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("same version"));
}

#[test]
fn an_agent_that_was_crowded_for_a_moment_is_tried_again() {
    let recovering = agent(|number, mut stream| {
        // The first opening is cut off, and so is the question in the old form.
        if number < 2 {
            return;
        }
        let mut channel = shake_hands(&mut stream).unwrap();
        let hello = next(&mut stream, &mut channel).unwrap();
        say(&mut stream, &mut channel, hello.request_id, Ok(welcome(VERSION, 1)));
    });
    assert!(Client::connect_with(&recovering, brief()).is_ok());
}

#[test]
fn silence_nonsense_and_departure_in_the_middle_are_faults() {
    let silent = agent(greeting(|_, _, _| true));
    let nonsense = agent(greeting(|stream, channel, _| {
        let mut sealed = Vec::new();
        channel.seal(&[255; 40], &mut sealed).unwrap();
        stream.write_all(&sealed).is_ok()
    }));
    let noise = agent(greeting(|stream, _, _| stream.write_all(&vec![255; 70_000]).is_ok()));
    let misplaced = agent(greeting(|stream, channel, request| {
        say(stream, channel, request.request_id, Ok(Answer::Cancelled));
        true
    }));
    let departing = agent(greeting(|_, _, _| false));
    for endpoint in [silent, nonsense, noise, misplaced, departing] {
        let mut client = Client::connect_with(&endpoint, brief()).unwrap();
        let began = Instant::now();
        let fault = client.measure(&plan(Digest([1; 32])), &mut |_| {}).unwrap_err();
        assert!(matches!(fault, BoardError::Unavailable { .. }), "{fault}");
        assert!(began.elapsed() < Duration::from_secs(2), "{fault} after {:?}", began.elapsed());
        assert!(!client.is_connected());
    }
}

#[test]
fn signs_of_life_keep_a_request_alive_only_until_its_time_is_over() {
    let chatty = agent(greeting(|stream, channel, request| {
        let Call::Measure(_) = request.call else { return true };
        for _ in 0..40 {
            std::thread::sleep(Duration::from_millis(50));
            let progress =
                n2n_protocol::Progress { elapsed_ms: 1, activity: n2n_protocol::Activity::default() };
            say(stream, channel, request.request_id, Ok(Answer::Progress(progress)));
        }
        true
    }));
    let patience = Patience { measure_margin: Duration::from_millis(700), ..brief() };
    let mut client = Client::connect_with(&chatty, patience).unwrap();
    let mut signs = 0;
    let short = MeasurePlan { time_budget_ms: 100, ..plan(Digest([1; 32])) };
    let fault = client.measure(&short, &mut |_| signs += 1).unwrap_err();
    assert!(
        matches!(&fault, BoardError::Unavailable { reason, .. } if reason.contains("time budget")),
        "{fault}"
    );
    assert!(signs > 5, "{signs}");
}

#[test]
fn an_agent_that_ignores_a_cancel_is_left() {
    let stubborn = agent(greeting(|_, _, _| true));
    let patience = Patience { silence: Duration::from_secs(20), ..brief() };
    let mut client = Client::connect_with(&stubborn, patience).unwrap();
    client.cancel_flag().store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert!(client.measure(&plan(Digest([1; 32])), &mut |_| {}).is_err());
    assert!(began.elapsed() < Duration::from_secs(2) && !client.is_connected());
}

#[test]
fn reconnecting_tries_so_often_and_never_takes_another_board_for_the_first() {
    let once = agent(|number, mut stream| {
        if number != 0 && number < 3 {
            return;
        }
        let mut channel = shake_hands(&mut stream).unwrap();
        let hello = next(&mut stream, &mut channel).unwrap();
        let fingerprint = if number < 5 { 1 } else { 2 };
        say(&mut stream, &mut channel, hello.request_id, Ok(welcome(VERSION, fingerprint)));
    });
    let mut client = Client::connect_with(&once, brief()).unwrap();
    assert!(client.probe().is_err());
    client.reconnect().unwrap();
    client.reconnect().unwrap();
    let other = client.reconnect().unwrap_err();
    assert!(
        matches!(&other, BoardError::Refused { reason, .. } if reason.contains("another board")),
        "{other}"
    );

    let gone = agent(|number, stream| {
        if number == 0 {
            greeting(|_, _, _| false)(number, stream);
        }
    });
    let mut client = Client::connect_with(&gone, brief()).unwrap();
    assert!(matches!(client.reconnect(), Err(BoardError::Unreachable { .. })));
}

#[test]
fn a_board_that_is_away_for_longer_than_the_tries_is_waited_for_as_long_as_told() {
    let returns = Instant::now() + Duration::from_secs(2);
    let away = agent(move |number, stream| {
        if number == 0 {
            greeting(|_, _, _| false)(number, stream);
        } else if Instant::now() > returns {
            greeting(|_, _, _| true)(number, stream);
        }
    });
    let mut client = Client::connect_with(&away, brief()).unwrap();
    assert!(client.probe().is_err());
    assert!(matches!(client.reconnect(), Err(BoardError::Unreachable { .. })), "three tries are soon over");
    let began = Instant::now();
    let given_up = client.reconnect_within(Duration::from_millis(300));
    assert!(
        matches!(given_up, Err(BoardError::Unreachable { .. })) && began.elapsed() < Duration::from_secs(10)
    );
    client.reconnect_within(Duration::from_mins(1)).unwrap();
    assert!(client.is_connected() && Instant::now() > returns);
    client.cancel_flag().store(true, Ordering::Relaxed);
    assert!(client.reconnect_within(Duration::from_mins(1)).is_ok(), "one that is there needs no waiting");
}

#[test]
fn waiting_in_the_line_is_not_counted_against_a_request_but_ends_some_time() {
    let waiting = |since_s| n2n_protocol::Progress {
        elapsed_ms: 1,
        activity: Activity::Waiting { ahead: 2, client: "ada@lab".to_owned(), since_s },
    };
    // Waits for longer than the request may take, then answers; a cancel is answered too.
    let line = move |waits: u32| {
        agent(greeting(move |stream, channel, request| {
            match request.call {
                Call::Probe => {
                    for number in 0..waits {
                        std::thread::sleep(Duration::from_millis(50));
                        say(stream, channel, request.request_id, Ok(Answer::Progress(waiting(number))));
                    }
                    let Answer::Hello(welcome) = welcome(VERSION, 1) else { return false };
                    say(stream, channel, request.request_id, Ok(Answer::Board(welcome.board)));
                }
                _ => say(stream, channel, request.request_id, Ok(Answer::Cancelled)),
            }
            true
        }))
    };
    let short = Duration::from_millis(500);
    let patience =
        Patience { short, silence: Duration::from_secs(5), cancel: Duration::from_secs(20), ..brief() };
    let mut client = Client::connect_with(&line(20), patience).unwrap();
    assert!(client.probe().is_ok(), "a second of waiting is none of its half second");

    let impatient = Patience { turn: Duration::from_millis(300), ..patience };
    let mut client = Client::connect_with(&line(20), impatient).unwrap();
    match client.probe() {
        Err(BoardError::Busy { client, .. }) => assert_eq!(client, "ada@lab"),
        other => panic!("{other:?}"),
    }
    assert!(client.is_connected(), "the link is well");
}

#[test]
fn a_blob_beyond_the_boards_limit_is_not_even_begun() {
    let small = agent(greeting(|_, _, _| false));
    let mut client = Client::connect_with(&small, brief()).unwrap();
    let error = client.put(&vec![0; MAX_BLOB_BYTES + 1], &mut |_, _| {}).unwrap_err();
    assert!(matches!(&error, BoardError::Refused { reason, .. } if reason.contains("1048577")), "{error}");
    assert!(client.is_connected());
}
