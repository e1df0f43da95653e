//! The server against peers of every kind, over real sockets: well-behaved, strange, slow, silent, vanishing.
//!
//! The agent's inside is scripted here; what it really does is tested where it lives.

use n2n_agent::deadlines::Deadlines;
use n2n_agent::handler::{Handler, Job};
use n2n_agent::key::watch::Keys;
use n2n_agent::key::{KeyRing, NamedKey, watch};
use n2n_agent::queue::Queue;
use n2n_agent::server::{SESSIONS, Server};
use n2n_agent::tally::Tally;
use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::handshake::{CHALLENGE_FRAME_BYTES, FRAME_BYTES, Initiator, Prologue, REJECTION, opening};
use n2n_protocol::key::Key;
use n2n_protocol::{
    Activity, Answer, Board, Call, Conditions, Digest, Failure, Hello, Log, Progress, Reply, Request,
    SCHEMA_HASH, VERSION, Version, codec, limits,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Far beyond every deadline below: reached only by a failing test.
const FOR_EVER: Duration = Duration::from_secs(20);

fn brief() -> Deadlines {
    Deadlines {
        handshake: Duration::from_millis(300),
        greeting: Duration::from_millis(300),
        message: Duration::from_millis(400),
        idle: Duration::from_millis(800),
        quiet: Duration::from_millis(200),
        write: Duration::from_millis(300),
        progress: Duration::from_millis(50),
        cancel: Duration::from_millis(400),
    }
}

fn key() -> Key {
    "07".repeat(32).parse().unwrap()
}

/// Places for strangers in these tests.
const STRANGERS: usize = 6;

/// An agent whose verbs are: probe answers, status panics, log tail answers with as much as it is asked for, confirm
/// ignores its cancellation, anything else works, alone, until it is cancelled.
struct Agent {
    address: SocketAddr,
    cancelled: Arc<AtomicUsize>,
    tally: Tally,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _data: tempfile::TempDir,
}

impl Agent {
    fn start(deadlines: Deadlines) -> Self {
        Self::with_keys(watch::fixed(KeyRing::of("desk", key())), deadlines)
    }

    fn with_keys(keys: Keys, deadlines: Deadlines) -> Self {
        let data = tempfile::tempdir().unwrap();
        let queue = Queue::new(data.path());
        let cancelled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cancelled);
        let handler = Handler::new(move |job| script(job, queue.clone(), Arc::clone(&count)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let tally = Tally::default();
        let server = Server::with(keys, handler, tally.clone(), deadlines, STRANGERS);
        let thread = std::thread::spawn(move || {
            runtime.block_on(server.serve(listener, async { drop(stopped.await) }));
        });
        Self { address, cancelled, tally, stop: Some(stop), thread: Some(thread), _data: data }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(FOR_EVER)).unwrap();
        stream
    }

    fn peer(&self) -> Peer {
        let mut peer = Peer::shake_hands(self.connect(), &key()).unwrap();
        let welcome = peer.ask(Call::Hello(hello("test")));
        assert!(matches!(welcome, Ok(Answer::Hello(_))), "{welcome:?}");
        peer
    }

    fn wait_for_cancelled(&self, wished: usize) {
        let began = Instant::now();
        while self.cancelled.load(Ordering::SeqCst) < wished {
            assert!(began.elapsed() < FOR_EVER, "the work of a lost client was not cancelled");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

async fn script(job: Job, queue: Queue, cancelled: Arc<AtomicUsize>) -> Result<Answer, Failure> {
    match job.call {
        Call::Probe => Ok(Answer::Board(Board {
            name: "desk".to_owned(),
            model: "test".to_owned(),
            class: "none".to_owned(),
            architecture: "none".to_owned(),
            system: "none".to_owned(),
            cores: 1,
            memory_bytes: 1,
            fingerprint: Digest([1; 32]),
            engines: vec![],
            conditions: Conditions::default(),
        })),
        Call::Status => panic!("scripted"),
        Call::LogTail { lines, .. } => Ok(Answer::Log(vec!["x".repeat(10_000); usize::from(lines)])),
        Call::Confirm { .. } => std::future::pending().await,
        _ => {
            let waiting = |activity| job.progress.report(Progress { elapsed_ms: 0, activity });
            let _turn = queue.turn(&job.client, "work", &job.cancel, &waiting).await?;
            job.progress.report(Progress { elapsed_ms: 0, activity: Activity::Running { processes: 3 } });
            job.cancel.cancelled().await;
            cancelled.fetch_add(1, Ordering::SeqCst);
            Err(Failure::Cancelled)
        }
    }
}

fn hello(client: &str) -> Hello {
    Hello { version: VERSION, schema: SCHEMA_HASH, client: client.to_owned() }
}

/// The host's side by hand, without any of its care.
struct Peer {
    stream: TcpStream,
    channel: Channel,
    last: u32,
}

impl Peer {
    fn shake_hands(mut stream: TcpStream, key: &Key) -> Result<Self, ChannelError> {
        let opening = opening(key).unwrap();
        stream.write_all(&opening).unwrap();
        let mut challenge = [0; CHALLENGE_FRAME_BYTES];
        stream.read_exact(&mut challenge).unwrap();
        Self::continued(stream, key, &Prologue::new(&opening, &challenge).unwrap())
    }

    /// As hosts of protocol 1 begin.
    fn old(stream: TcpStream, key: &Key) -> Result<Self, ChannelError> {
        Self::continued(stream, key, &Prologue::old())
    }

    fn continued(mut stream: TcpStream, key: &Key, prologue: &Prologue) -> Result<Self, ChannelError> {
        let (initiator, frame) = Initiator::begin(key, prologue).unwrap();
        stream.write_all(&frame).unwrap();
        let mut answer = vec![0; FRAME_BYTES];
        stream.read_exact(&mut answer[..2]).unwrap();
        if answer[..2] == REJECTION {
            return Err(initiator.finish(&answer[..2], 0).err().unwrap());
        }
        stream.read_exact(&mut answer[2..]).unwrap();
        let channel = initiator.finish(&answer, limits::REPLY_BYTES)?;
        Ok(Self { stream, channel, last: 0 })
    }

    fn send_raw(&mut self, message: &[u8]) {
        let mut sealed = Vec::new();
        self.channel.seal(message, &mut sealed).unwrap();
        self.stream.write_all(&sealed).unwrap();
    }

    fn send(&mut self, call: Call) -> u32 {
        self.last += 1;
        let request = Request { request_id: self.last, call };
        self.send_raw(&codec::encode(&request, usize::MAX).unwrap());
        self.last
    }

    /// The next reply; `None` when the agent has closed the connection.
    fn receive(&mut self) -> Option<Reply> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.channel.pop().unwrap() {
                return Some(codec::decode(&message, limits::REPLY_BYTES).unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(read) if read > 0 => self.channel.push(&buffer[..read]),
                Ok(_) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn ask(&mut self, call: Call) -> Result<Answer, Failure> {
        let request_id = self.send(call);
        loop {
            let reply = self.receive().expect("an answer");
            assert_eq!(reply.request_id, request_id);
            // On a slow machine anything may take long enough for a sign of life.
            if !matches!(reply.outcome, Ok(Answer::Progress(_))) {
                return reply.outcome;
            }
        }
    }
}

/// How long until the agent closes a connection, with nothing but `seen` sent before.
fn closed(stream: &mut TcpStream, seen: &[u8]) -> Duration {
    let began = Instant::now();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => assert_eq!(answer, seen),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    began.elapsed()
}

#[test]
fn a_host_with_the_key_is_greeted_and_served() {
    let agent = Agent::start(brief());
    let mut peer = Peer::shake_hands(agent.connect(), &key()).unwrap();
    match peer.ask(Call::Hello(hello("me"))) {
        Ok(Answer::Hello(welcome)) => {
            assert_eq!((welcome.version, welcome.schema), (VERSION, SCHEMA_HASH));
            assert_eq!((welcome.board.name.as_str(), welcome.max_blob_bytes), ("desk", limits::BLOB_BYTES));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(peer.ask(Call::Probe), Ok(Answer::Board(_))));
    assert!(matches!(peer.ask(Call::Hello(hello("me"))), Err(Failure::Refused(_))));
    assert!(matches!(peer.ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn another_key_is_refused_by_name() {
    let agent = Agent::start(brief());
    let other = "08".repeat(32).parse().unwrap();
    assert_eq!(Peer::shake_hands(agent.connect(), &other).err(), Some(ChannelError::KeyRefused));
}

#[test]
fn other_versions_and_tables_are_refused_with_both_names() {
    let agent = Agent::start(brief());
    let ours = format!("{}.{}", VERSION.major, VERSION.minor);
    let other_major = Hello { version: Version { major: 9, minor: 1 }, ..hello("new") };
    let other_table = Hello { schema: [0xEE; 8], ..hello("other") };
    for (hello, theirs) in [(other_major, "9.1"), (other_table, "eeeeeeeeeeeeeeee")] {
        let mut peer = Peer::shake_hands(agent.connect(), &key()).unwrap();
        match peer.ask(Call::Hello(hello)) {
            Err(Failure::Refused(text)) => {
                assert!(text.contains(&ours) && text.contains(theirs) && text.contains("install"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(peer.receive().is_none());
    }
}

#[test]
fn a_host_of_protocol_1_hears_both_versions_but_not_more_often_than_every_two_seconds() {
    let agent = Agent::start(brief());
    let mut old = Peer::old(agent.connect(), &key()).unwrap();
    let hello_1_0 =
        Hello { version: Version { major: 1, minor: 0 }, schema: [0xc7; 8], client: "old".to_owned() };
    match old.ask(Call::Hello(hello_1_0)) {
        Err(Failure::Refused(text)) => {
            let ours = format!("protocol {}.{}", VERSION.major, VERSION.minor);
            assert!(text.contains(&ours) && text.contains("1.0 (") && text.contains("install"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(old.receive().is_none());
    // A key exchange each: a flood of recorded first messages is closed unanswered.
    let (_, recorded) = Initiator::begin(&key(), &Prologue::old()).unwrap();
    for _ in 0..20 {
        let mut stream = agent.connect();
        stream.write_all(&recorded).unwrap();
        closed(&mut stream, b"");
    }
    assert!(matches!(agent.peer().ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn hello_comes_first_and_is_short() {
    let agent = Agent::start(brief());
    let mut peer = Peer::shake_hands(agent.connect(), &key()).unwrap();
    assert_eq!(peer.ask(Call::Probe), Err(Failure::Refused("hello must come first".to_owned())));
    assert!(peer.receive().is_none());
    // A message beyond the limit before the greeting is not even read.
    let mut peer = Peer::shake_hands(agent.connect(), &key()).unwrap();
    peer.send_raw(&[0; limits::HELLO_BYTES + 1]);
    assert!(peer.receive().is_none());
}

#[test]
fn strangers_are_sent_away_in_bounded_time() {
    let agent = Agent::start(brief());
    let handshake = brief().handshake;
    // Another protocol, long enough for a handshake frame: at once.
    let mut web = agent.connect();
    web.write_all(b"GET / HTTP/1.1\r\nHost: board.local\r\nAccept: */*\r\n\r\n").unwrap();
    assert!(closed(&mut web, b"") < handshake);
    // An opening, and then nothing.
    let mut opened = agent.connect();
    opened.write_all(&opening(&key()).unwrap()).unwrap();
    let mut challenge = [0; CHALLENGE_FRAME_BYTES];
    opened.read_exact(&mut challenge).unwrap();
    assert!(closed(&mut opened, b"") >= handshake / 2);
    // Silence, and one byte at a time: when the handshake's time is over.
    let mut silent = agent.connect();
    assert!(closed(&mut silent, b"") >= handshake / 2);
    let mut slow = agent.connect();
    let began = Instant::now();
    while slow.write_all(&[0]).is_ok() {
        assert!(began.elapsed() < FOR_EVER, "a byte now and then must not keep a connection open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(matches!(agent.peer().ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn a_crowd_of_strangers_is_bounded_and_a_newcomer_takes_the_oldest_ones_place() {
    let agent = Agent::start(Deadlines { handshake: FOR_EVER, ..brief() });
    let mut crowd: Vec<_> = (0..STRANGERS).map(|_| agent.connect()).collect();
    assert!(matches!(agent.peer().ask(Call::Probe), Ok(Answer::Board(_))));
    assert!(closed(&mut crowd[0], b"") < FOR_EVER / 2, "the oldest has made room");
    // One that proved its key stays, also beside a crowd that repeats its opening.
    let opening = opening(&key()).unwrap();
    let mut open = |stranger: &mut TcpStream| {
        stranger.write_all(&opening).unwrap();
        stranger.read_exact(&mut [0; CHALLENGE_FRAME_BYTES]).unwrap();
    };
    open(&mut crowd[1]);
    let mut more: Vec<_> = (0..STRANGERS - 1).map(|_| agent.connect()).collect();
    closed(&mut crowd[2], b"");
    more.iter_mut().for_each(&mut open);
    let _further: Vec<_> = (0..STRANGERS).map(|_| agent.connect()).collect();
    closed(&mut more[0], b"");
    crowd[1].set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let waits = crowd[1].read(&mut [0]).unwrap_err().kind();
    assert!(matches!(waits, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{waits}");
    assert!(agent.tally.total() > 0);
}

#[test]
fn a_replayed_first_message_opens_nothing_and_takes_no_session() {
    let agent = Agent::start(Deadlines { greeting: FOR_EVER, ..brief() });
    // A genuine connection, as somebody on the way sees it.
    let (mut genuine, mut seen) = (agent.connect(), [0; CHALLENGE_FRAME_BYTES]);
    let opening = opening(&key()).unwrap();
    genuine.write_all(&opening).unwrap();
    genuine.read_exact(&mut seen).unwrap();
    let prologue = Prologue::new(&opening, &seen).unwrap();
    let (_, recorded) = Initiator::begin(&key(), &prologue).unwrap();
    genuine.write_all(&recorded).unwrap();
    genuine.read_exact(&mut [0; FRAME_BYTES]).unwrap();
    for _ in 0..3 * SESSIONS {
        let mut replay = agent.connect();
        replay.write_all(&opening).unwrap();
        replay.read_exact(&mut seen).unwrap();
        replay.write_all(&recorded).unwrap();
        closed(&mut replay, &REJECTION);
    }
    let hosts: Vec<_> = (0..SESSIONS).map(|_| agent.peer()).collect();
    assert_eq!(hosts.len(), SESSIONS, "all places are still there, beside one that never says hello");
}

#[test]
fn a_host_too_many_hears_who_is_there() {
    let agent = Agent::start(Deadlines { idle: FOR_EVER, quiet: FOR_EVER, ..brief() });
    let mut hosts: Vec<_> = (0..SESSIONS).map(|_| agent.peer()).collect();
    let mut one_too_many = Peer::shake_hands(agent.connect(), &key()).unwrap();
    match one_too_many.ask(Call::Hello(hello("late"))) {
        Err(Failure::Busy { client, .. }) => {
            assert!(client.contains("8 hosts") && client.contains("test"), "{client}");
        }
        other => panic!("{other:?}"),
    }
    assert!(one_too_many.receive().is_none(), "told, and then closed");
    assert!(hosts.iter_mut().all(|host| host.ask(Call::Probe).is_ok()));
    assert_eq!(agent.tally.total(), 0, "none of them is a stranger");
}

#[test]
fn a_silent_host_makes_room_for_one_that_waits() {
    let agent = Agent::start(Deadlines { idle: FOR_EVER, quiet: Duration::ZERO, ..brief() });
    let mut hosts: Vec<_> = (0..SESSIONS).map(|_| agent.peer()).collect();
    // One is at work, and all others but the second have spoken since.
    hosts[0].send(Call::Activate { id: 0 });
    assert!(matches!(hosts[0].receive().unwrap().outcome, Ok(Answer::Progress(_))));
    for host in hosts.iter_mut().skip(2) {
        assert!(matches!(host.ask(Call::Probe), Ok(Answer::Board(_))));
    }
    let mut late = agent.peer();
    assert!(matches!(late.ask(Call::Probe), Ok(Answer::Board(_))));
    assert!(hosts[1].receive().is_none(), "the silent one has left");
    assert!(matches!(hosts[0].receive().unwrap().outcome, Ok(Answer::Progress(_))), "work goes on");
    assert!(hosts.iter_mut().skip(2).all(|host| host.ask(Call::Probe).is_ok()));
}

#[test]
fn each_host_has_a_key_and_removing_one_ends_its_sessions_and_no_others() {
    let other: Key = "08".repeat(32).parse().unwrap();
    let named = |name: &str, key: &Key| NamedKey { name: name.to_owned(), key: key.clone() };
    let both = KeyRing::new([named("desk", &key()), named("lab", &other)]);
    let sender = tokio::sync::watch::Sender::new(Arc::new(both));
    let agent = Agent::with_keys(sender.subscribe(), Deadlines { idle: FOR_EVER, ..brief() });
    let mut desk = agent.peer();
    let mut lab = Peer::shake_hands(agent.connect(), &other).unwrap();
    lab.ask(Call::Hello(hello("lab"))).unwrap();
    lab.send(Call::Activate { id: 0 });
    assert!(matches!(lab.receive().unwrap().outcome, Ok(Answer::Progress(_))));
    sender.send_replace(Arc::new(KeyRing::of("desk", key())));
    while lab.receive().is_some() {}
    agent.wait_for_cancelled(1);
    assert_eq!(Peer::shake_hands(agent.connect(), &other).err(), Some(ChannelError::KeyRefused));
    assert!(matches!(desk.ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn a_broken_record_or_an_impossible_length_ends_the_session() {
    let agent = Agent::start(brief());
    for bytes in [vec![0xFF; 70_000], vec![0, 3, 1, 2, 3], vec![0, 0]] {
        let mut peer = agent.peer();
        peer.stream.write_all(&bytes).unwrap();
        assert!(peer.receive().is_none());
    }
}

#[test]
fn half_a_message_has_a_deadline_and_so_has_an_idle_session() {
    let agent = Agent::start(brief());
    let mut half = agent.peer();
    let mut sealed = Vec::new();
    half.channel.seal(&vec![1; 100_000], &mut sealed).unwrap();
    half.stream.write_all(&sealed[..80_000]).unwrap();
    let began = Instant::now();
    assert!(half.receive().is_none());
    assert!(began.elapsed() >= brief().message / 2 && began.elapsed() < brief().message * 4);
    let mut idle = agent.peer();
    let began = Instant::now();
    assert!(idle.receive().is_none());
    assert!(began.elapsed() >= brief().idle / 2);
}

#[test]
fn an_unknown_verb_is_refused_and_the_session_goes_on() {
    let agent = Agent::start(brief());
    let mut peer = agent.peer();
    peer.send_raw(&[77, 99, 1, 2]);
    let reply = peer.receive().unwrap();
    assert!(matches!(reply, Reply { request_id: 77, outcome: Err(Failure::Refused(_)) }), "{reply:?}");
    assert!(matches!(peer.ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn long_work_shows_signs_of_life_takes_no_second_request_and_can_be_cancelled() {
    let agent = Agent::start(brief());
    let mut peer = agent.peer();
    let long = peer.send(Call::Activate { id: 0 });
    for _ in 0..2 {
        match peer.receive().unwrap() {
            Reply { request_id, outcome: Ok(Answer::Progress(progress)) } => {
                assert_eq!((request_id, progress.activity), (long, Activity::Running { processes: 3 }));
                assert!(progress.elapsed_ms >= 50);
            }
            other => panic!("{other:?}"),
        }
    }
    // Idle deadlines do not count while work is going on.
    std::thread::sleep(brief().idle + Duration::from_millis(100));
    let second = peer.send(Call::Probe);
    let cancel = peer.send(Call::Cancel { request_id: long });
    let (mut refused, mut acknowledged) = (false, false);
    loop {
        match peer.receive().unwrap() {
            Reply { outcome: Ok(Answer::Progress(_)), .. } => {}
            Reply { request_id, outcome: Err(Failure::Refused(_)) } if request_id == second => refused = true,
            Reply { request_id, outcome: Ok(Answer::Cancelled) } if request_id == cancel => {
                acknowledged = true;
            }
            Reply { request_id, outcome: Err(Failure::Cancelled) } if request_id == long => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused && acknowledged);
    // Too late a cancel, and one for nothing, are no faults.
    assert_eq!(peer.ask(Call::Cancel { request_id: long }), Ok(Answer::Cancelled));
}

#[test]
fn work_that_ignores_its_cancellation_is_dropped() {
    let agent = Agent::start(brief());
    let mut peer = agent.peer();
    let stubborn = peer.send(Call::Confirm { id: 0 });
    peer.send(Call::Cancel { request_id: stubborn });
    let began = Instant::now();
    loop {
        match peer.receive().unwrap() {
            Reply { request_id, outcome: Err(Failure::Cancelled) } if request_id == stubborn => break,
            _ => assert!(began.elapsed() < brief().cancel * 4),
        }
    }
    assert!(matches!(peer.ask(Call::Probe), Ok(Answer::Board(_))));
}

/// The next thing that a request is doing, of which `wanted` is true.
fn next_activity(peer: &mut Peer, wanted: impl Fn(&Activity) -> bool) {
    let began = Instant::now();
    loop {
        match peer.receive().unwrap().outcome {
            Ok(Answer::Progress(Progress { activity, .. })) if wanted(&activity) => return,
            Ok(Answer::Progress(_)) => assert!(began.elapsed() < FOR_EVER),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_second_client_hears_who_has_the_board_until_the_first_is_lost() {
    let agent = Agent::start(brief());
    let mut first = Peer::shake_hands(agent.connect(), &key()).unwrap();
    first.ask(Call::Hello(hello("alice"))).unwrap();
    first.send(Call::Activate { id: 0 });
    next_activity(&mut first, |activity| *activity == Activity::Running { processes: 3 });
    let mut second = agent.peer();
    second.send(Call::Activate { id: 0 });
    next_activity(
        &mut second,
        |activity| matches!(activity, Activity::Waiting { ahead: 1, client, .. } if client == "alice"),
    );
    drop(first);
    agent.wait_for_cancelled(1);
    next_activity(&mut second, |activity| *activity == Activity::Running { processes: 3 });
}

#[test]
fn a_panic_in_the_work_is_a_failure_and_no_more() {
    let agent = Agent::start(brief());
    let mut peer = agent.peer();
    assert!(matches!(peer.ask(Call::Status), Err(Failure::Failed(_))));
    assert!(matches!(peer.ask(Call::Probe), Ok(Answer::Board(_))));
}

#[test]
fn a_peer_that_does_not_take_its_answer_is_sent_away() {
    let agent = Agent::start(brief());
    let mut deaf = agent.peer();
    deaf.send(Call::LogTail { lines: 1000, log: Log::Agent });
    // 10 MB do not fit into the buffers of the sockets.
    std::thread::sleep(brief().write * 4);
    assert!(deaf.receive().is_none(), "the answer was cut off");
}

#[test]
fn an_answer_beyond_the_limit_becomes_a_failure() {
    let agent = Agent::start(Deadlines { write: FOR_EVER, ..brief() });
    let mut peer = agent.peer();
    match peer.ask(Call::LogTail { lines: 2000, log: Log::Agent }) {
        Err(Failure::Failed(text)) => assert!(text.contains("does not fit"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stopping_cancels_what_runs() {
    let agent = Agent::start(brief());
    let mut peer = agent.peer();
    peer.send(Call::Activate { id: 0 });
    assert!(matches!(peer.receive().unwrap().outcome, Ok(Answer::Progress(_))));
    let cancelled = Arc::clone(&agent.cancelled);
    drop(agent);
    assert_eq!(cancelled.load(Ordering::SeqCst), 1);
    while let Some(reply) = peer.receive() {
        assert!(matches!(reply.outcome, Ok(Answer::Progress(_))));
    }
}
