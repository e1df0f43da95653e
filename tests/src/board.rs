//! A board of its own: the real agent with a key and a data folder, which can be killed and started again, on a disk that
//! can be filled or made read-only.
//!
//! Such a disk is a file system in memory in a mount name space of its own, so that nothing of it is seen outside.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use n2n::board::{Client, Endpoint};
use n2n_protocol::Digest;
use serde_json::Value;

use crate::world::{Finished, Running, World};

/// For a program that does one small thing, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_mins(1);
/// Name of the board in the user's book.
const NAME: &str = "pi";

/// A board, and the programs around it.
#[derive(Debug)]
pub struct Board<'a> {
    world: &'a World,
    host: &'a str,
    agent: &'a str,
    /// The folder as the agent sees it.
    data: PathBuf,
    address: String,
    running: Option<Running>,
    disk: Option<Disk>,
}

/// A file system of its own.
#[derive(Debug)]
struct Disk {
    /// Keeps the name space alive.
    holder: Running,
}

impl<'a> Board<'a> {
    /// A started board in a user's world, known to the host program as `pi`. `configuration` is its `agent.toml`.
    ///
    /// # Errors
    /// When a program cannot be started, or fails.
    pub fn new(world: &'a World, host: &'a str, agent: &'a str, configuration: &str) -> io::Result<Self> {
        Self::begin(world, host, agent, None, configuration)
    }

    /// The same on a disk of so many megabytes.
    ///
    /// # Errors
    /// As [`Self::new`], and when this user may not mount a file system, even in a name space of its own.
    pub fn on_disk(
        world: &'a World,
        host: &'a str,
        agent: &'a str,
        megabytes: u32,
        configuration: &str,
    ) -> io::Result<Self> {
        let place = world.path().join("disk");
        std::fs::create_dir(&place)?;
        let mount = format!(
            "mount -t tmpfs -o size={megabytes}m,mode=755 tmpfs {} && echo mounted && exec sleep 3600",
            place.display()
        );
        let holder = world.start("unshare", &["--map-root-user", "--mount", "sh", "-c", &mount])?;
        holder.next_line(SOON)?;
        Self::begin(world, host, agent, Some(Disk { holder }), configuration)
    }

    fn begin(
        world: &'a World,
        host: &'a str,
        agent: &'a str,
        disk: Option<Disk>,
        configuration: &str,
    ) -> io::Result<Self> {
        let data = world.path().join(if disk.is_some() { "disk/agent" } else { "agent" });
        let mut board = Self { world, host, agent, data, address: "127.0.0.1:0".into(), running: None, disk };
        std::fs::create_dir_all(board.data())?;
        std::fs::write(board.data().join("agent.toml"), configuration)?;
        let key = world.run(agent, &["key", "--key-file", "agent.key"], SOON)?;
        check(&key)?;
        board.start()?;
        let address = format!("tcp://{}", board.address);
        check(&world.run(host, &["board", "add", NAME, &address, "--key-file", "agent.key"], SOON)?)?;
        Ok(board)
    }

    /// Starts the agent, always at the same address.
    ///
    /// # Errors
    /// When it does not say where it listens.
    pub fn start(&mut self) -> io::Result<()> {
        self.start_under(&[])
    }

    /// Starts the agent as the last words of another command: `strace …`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_under(&mut self, command: &[&str]) -> io::Result<()> {
        let data = self.data.display().to_string();
        let serve = ["serve", "--listen", &self.address, "--key-file", "agent.key", "--data", &data];
        let inside = self.inside();
        let mut words: Vec<&str> = inside.iter().map(String::as_str).collect();
        words.extend(command);
        words.push(self.agent);
        words.extend(serve);
        let running = self.world.start(words[0], &words[1..])?;
        let line = running.next_line(SOON)?;
        let address = line.strip_prefix("listening ").map(str::to_owned);
        self.address = address.ok_or_else(|| io::Error::other(format!("the agent said {line:?}")))?;
        self.running = Some(running);
        Ok(())
    }

    /// Words that lead into the disk's name space.
    fn inside(&self) -> Vec<String> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let (holder, here) = (disk.holder.id().to_string(), self.world.path().display());
        // Entering leaves the working directory behind.
        let enter = format!("cd {here} && exec \"$0\" \"$@\"");
        let words = ["nsenter", "--target", &holder, "--user", "--preserve-credentials", "--mount"];
        words.into_iter().chain(["sh", "-c", &enter]).map(str::to_owned).collect()
    }

    /// Ends the agent with `kill -9`, if it is running.
    ///
    /// # Errors
    /// As for killing a child.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.kill()?;
        running.finish(SOON).map(drop)
    }

    /// Whether the agent is alive.
    ///
    /// # Errors
    /// As for asking after a child.
    pub fn is_running(&mut self) -> io::Result<bool> {
        self.running.as_mut().map_or(Ok(false), Running::is_running)
    }

    /// Kills the agent and starts it again.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.start()
    }

    /// Mounts the disk anew with other rights: `ro`, `rw`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remount(&self, rights: &str) -> io::Result<()> {
        let inside = self.inside();
        let place = self.world.path().join("disk");
        let mut command = Command::new(&inside[0]);
        command.args(&inside[1..]).args(["mount", "-o", &format!("remount,{rights}")]).arg(place);
        if command.status()?.success() {
            Ok(())
        } else {
            Err(io::Error::other("the disk is not mounted anew"))
        }
    }

    /// Its data folder, as seen from here.
    pub fn data(&self) -> PathBuf {
        match &self.disk {
            None => self.data.clone(),
            Some(disk) => {
                let root = PathBuf::from(format!("/proc/{}/root", disk.holder.id()));
                root.join(self.data.strip_prefix("/").unwrap_or(&self.data))
            }
        }
    }

    /// Fills its disk to the last byte.
    ///
    /// # Errors
    /// When the disk cannot be written at all.
    pub fn fill(&self) -> io::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.data().join("filling"))?;
        for size in [1 << 16, 512, 1] {
            let piece = vec![1; size];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Runs the host program: the words of a line, and `--board pi` behind them.
    ///
    /// # Errors
    /// When it is not done in time.
    pub fn host(&self, line: &str) -> io::Result<Finished> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.extend(["--board", NAME]);
        self.world.run(self.host, &words, SOON)
    }

    /// Starts the host program in the background.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_host(&self, line: &str) -> io::Result<Running> {
        self.start_host_under(&[], line)
    }

    /// The same as the last words of another command: `strace …`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_host_under(&self, command: &[&str], line: &str) -> io::Result<Running> {
        let mut words = command.to_vec();
        words.push(self.host);
        words.extend(line.split_whitespace());
        words.extend(["--board", NAME]);
        self.world.start(words[0], &words[1..])
    }

    /// `n2n status --json`.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn status(&self) -> io::Result<Value> {
        let finished = self.host("status --json")?;
        check(&finished)?;
        Ok(finished.json()?)
    }

    /// Digest of the file that applications open.
    pub fn opened(&self) -> Option<Digest> {
        std::fs::read(self.data().join("slots/active/model.onnx")).ok().map(|bytes| Digest::of(&bytes))
    }

    /// As [`Self::opened`], after the agent has looked at everything.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn opened_when_settled(&self) -> io::Result<Option<Digest>> {
        self.status().map(|_| self.opened())
    }

    /// A client of the protocol itself.
    ///
    /// # Errors
    /// When the board does not answer.
    pub fn client(&self) -> anyhow::Result<Client> {
        let (host, port) = self.address.rsplit_once(':').context("an address has a port")?;
        let key = std::fs::read_to_string(self.world.path().join("agent.key"))?.parse()?;
        Ok(Client::connect(&Endpoint::Tcp { host: host.into(), port: port.parse()?, key })?)
    }

    /// Ships with a host that is killed as soon as the student is active: by the user's own program, which is told of it.
    /// The board must have been made with [`killing_program`].
    ///
    /// # Errors
    /// When nothing can be started.
    pub fn ship_with_a_host_that_dies(&self, file: &str) -> io::Result<()> {
        let host = self.start_host(&format!("ship {file} --name doomed"))?;
        self.world.write("host.pid", host.id().to_string())?;
        host.finish(SOON)?;
        std::fs::remove_file(self.world.path().join("host.pid"))
    }

    /// Writes a student into the world, for the host program to ship.
    ///
    /// # Errors
    /// As for writing files.
    pub fn student(&self, name: &str, seed: u64) -> io::Result<Digest> {
        let bytes = super::candidate::student(seed);
        self.world.write(&format!("{name}.onnx"), &bytes)?;
        Ok(Digest::of(&bytes))
    }
}

/// A configuration whose program kills the host that ships a student called `doomed`, and writes into `heard` whatever it is
/// told.
///
/// # Errors
/// When the program cannot be written.
pub fn killing_program(world: &World) -> io::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let (pid, heard) = (world.path().join("host.pid"), world.path().join("heard"));
    let (pid, heard) = (pid.display(), heard.display());
    let text = format!(
        "#!/bin/sh\n\
         echo \"$N2N_EVENT $N2N_NAME\" >> {heard}\n\
         [ \"$N2N_EVENT $N2N_NAME\" = 'activated doomed' ] || exit 0\n\
         while [ ! -s {pid} ]; do sleep 0.01; done\n\
         kill -9 $(cat {pid})\n"
    );
    let program = world.write("told", text)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(format!("on_switch = \"{}\"\n", program.display()))
}

/// A program that did what it was to do.
fn check(finished: &Finished) -> io::Result<()> {
    if finished.code == Some(0) { Ok(()) } else { Err(io::Error::other(finished.stderr.clone())) }
}
