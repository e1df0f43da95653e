//! What a profile's `"detect"` stands for: answers of the machine that this program runs on. Linux only, as the agent.

/// Where Linux says what there is.
const MEMORY: &str = "/proc/meminfo";
const CPU: &str = "/proc/cpuinfo";

pub(super) fn cores() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX))
}

/// At least 1: a profile with no memory would be refused, and any machine that runs this has more.
pub(super) fn memory_mib() -> u64 {
    let kib =
        field(MEMORY, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(1, |kib| (kib / 1024).max(1))
}

pub(super) fn cpu_model() -> String {
    field(CPU, "model name").or_else(|| field(CPU, "Model")).unwrap_or_else(|| "unknown".into())
}

/// The first `key : value` line of a file.
fn field(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key));
    value.map(|(_, value)| value.trim().to_owned())
}
