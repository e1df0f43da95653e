//! What a board is, in which condition it is, and what it is doing.

use crate::Digest;
use crate::bounded::list;
use crate::deployment::SlotStatus;
use crate::limits;
use alloc::string::String;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// A board's identity, and its condition at the time of asking. `None` is "unknown", never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Board {
    /// Host name.
    pub name: String,
    /// Device-tree model or CPU brand.
    pub model: String,
    /// Class of board that a bundle is made for, for example `raspberrypi,4-model-b`: what the board's own configuration
    /// says, else the device tree's first `compatible` entry, else the architecture with `-linux` behind it.
    pub class: String,
    /// Instruction set, as in a target triple.
    pub architecture: String,
    /// Kernel and distribution.
    pub system: String,
    /// Logical cores.
    pub cores: u16,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// SHA-256 over the stable facts above: the key under which measurements are kept.
    pub fingerprint: Digest,
    /// Engines that this agent can use, its default first.
    #[serde(deserialize_with = "list::<{ limits::ENGINES }, _, _>")]
    pub engines: Vec<EngineId>,
    /// Condition now.
    pub conditions: Conditions,
}

/// Which inference engine gave a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct EngineId {
    /// Name, for example `tract`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What may disturb a number, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct Conditions {
    /// Current frequency of each core, kHz; empty where unknown.
    #[serde(deserialize_with = "list::<{ limits::CORES }, _, _>")]
    pub frequencies_khz: Vec<u32>,
    /// cpufreq governor.
    pub governor: Option<String>,
    /// Thermal zones: name and temperature in millidegrees Celsius.
    #[serde(deserialize_with = "list::<{ limits::THERMAL_ZONES }, _, _>")]
    pub temperatures: Vec<(String, i32)>,
    /// Load in thousandths of a process: the average of a minute, or what goes on running now beside the agent where that is more.
    pub load_milli: Option<u32>,
    /// Raspberry Pi throttle bits, where the board has them.
    pub throttle_bits: Option<u32>,
    /// Jetson power mode, where the board has one.
    pub power_mode: Option<String>,
}

/// What an agent is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Status {
    /// The slots; `None` when another agent on this machine owns the data folder.
    pub slots: Option<SlotStatus>,
    /// Process id of that other agent.
    pub owner: Option<u32>,
    /// Who has the board, then who waits for it, in order.
    #[serde(deserialize_with = "list::<{ limits::QUEUE }, _, _>")]
    pub queue: Vec<Turn>,
    /// Room on the disk of the data folder.
    pub disk: Disk,
    /// Connections without a key that were turned away since the agent started.
    pub strangers: u64,
    /// Seconds since the agent started.
    pub uptime_s: u64,
}

/// One request that has the board or waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Turn {
    /// Who asked.
    pub client: String,
    /// For what: `measure`, `stage`, ….
    pub verb: String,
    /// Since when it waits or runs, seconds.
    pub since_s: u32,
}

/// Memory that one model may take on a board, whatever a plan asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct FreeMemory {
    /// Bytes, now; `None` is unknown.
    pub bytes: Option<u64>,
    /// Whether that is less than the board has, because others have the memory now.
    pub scarce: bool,
}

/// Room on a disk, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Disk {
    /// Free for the agent.
    pub free_bytes: u64,
    /// What uploads must leave free.
    pub reserve_bytes: u64,
}
