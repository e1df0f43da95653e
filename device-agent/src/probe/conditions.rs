//! Readings that change from moment to moment, each from its file under a root that tests replace.

use n2n_protocol::{Conditions, limits};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for `vcgencmd`: it answers in milliseconds or the firmware is stuck.
const VCGENCMD_WAIT: Duration = Duration::from_millis(300);
/// Between two looks at whether it has ended.
const VCGENCMD_POLL: Duration = Duration::from_millis(5);

/// Looks at what runs now, and the time between two: whoever works all the time is seen in all of them, and who asks for a
/// measurement is not.
const LOAD_LOOKS: u32 = 8;
const LOAD_PAUSE: Duration = Duration::from_millis(10);

/// All conditions at this moment.
pub(super) fn read(root: &Path) -> Conditions {
    let cores = cores_with_cpufreq(root);
    Conditions {
        frequencies_khz: core_frequencies_khz(root, &cores),
        governor: cores.first().and_then(|core| text(&cpufreq_file(root, *core, "scaling_governor"))),
        temperatures: temperatures(root),
        load_milli: load_milli(|| text(&root.join("proc/loadavg"))),
        throttle_bits: throttle_bits(root).or_else(|| vcgencmd(root)),
        power_mode: text(&root.join("var/lib/nvpmodel/status")),
    }
}

/// Trimmed content of a small file; `None` where there is none.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let mut content = String::from_utf8_lossy(&bytes).trim_matches(['\0', '\n', ' ', '\t']).to_string();
    content.truncate(content.floor_char_boundary(limits::NAME_BYTES));
    (!content.is_empty()).then_some(content)
}

/// Names in a folder that begin with `prefix`, sorted; empty where there is no folder.
fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort_unstable();
    names
}

fn cpufreq_file(root: &Path, core: u16, file: &str) -> PathBuf {
    root.join(format!("sys/devices/system/cpu/cpu{core}/cpufreq/{file}"))
}

/// A number of a core's cpufreq folder, kHz.
pub(super) fn cpufreq(root: &Path, core: u16, file: &str) -> Option<u32> {
    text(&cpufreq_file(root, core, file))?.parse().ok()
}

fn cores_with_cpufreq(root: &Path) -> Vec<u16> {
    let mut cores: Vec<u16> = names(&root.join("sys/devices/system/cpu"), "cpu")
        .iter()
        .filter_map(|name| name.strip_prefix("cpu")?.parse().ok())
        .filter(|core| cpufreq_file(root, *core, "").is_dir())
        .take(limits::CORES)
        .collect();
    cores.sort_unstable();
    cores
}

/// Present frequencies of some cores, kHz; empty unless all are known.
pub(super) fn core_frequencies_khz(root: &Path, cores: &[u16]) -> Vec<u32> {
    let frequencies: Option<Vec<u32>> =
        cores.iter().map(|core| cpufreq(root, *core, "scaling_cur_freq")).collect();
    frequencies.unwrap_or_default()
}

fn temperatures(root: &Path) -> Vec<(String, i32)> {
    let folder = root.join("sys/class/thermal");
    names(&folder, "thermal_zone")
        .iter()
        .take(limits::THERMAL_ZONES)
        .filter_map(|zone| {
            let name = text(&folder.join(zone).join("type"))?;
            let millidegrees = text(&folder.join(zone).join("temp"))?.parse().ok()?;
            Some((name, millidegrees))
        })
        .collect()
}

/// Load in thousandths, from looks at `0.53 0.40 0.30 1/200 999`: of one minute, or the least of what else runs now where that
/// is more, since what has just begun is in no average yet.
fn load_milli(mut look: impl FnMut() -> Option<String>) -> Option<u32> {
    let (average, mut others) = load(&look()?)?;
    for _ in 1..LOAD_LOOKS {
        if others <= average {
            break;
        }
        std::thread::sleep(LOAD_PAUSE);
        others = others.min(load(&look()?)?.1);
    }
    Some(average.max(others))
}

/// The average of a minute, and how many processes run besides this one; thousandths.
fn load(loadavg: &str) -> Option<(u32, u32)> {
    let mut fields = loadavg.split_ascii_whitespace();
    let average: f64 = fields.next()?.parse().ok()?;
    let running = fields.nth(2).and_then(|field| field.split_once('/')?.0.parse::<u32>().ok());
    let others = running.unwrap_or(0).saturating_sub(1).saturating_mul(1000);
    (average.is_finite() && average >= 0.0).then_some(((average * 1000.0).round() as u32, others))
}

/// The firmware driver's file: hexadecimal digits. Its folder carries the bus address on newer boards.
pub(super) fn throttle_bits(root: &Path) -> Option<u32> {
    let platform = root.join("sys/devices/platform");
    names(&platform, "soc").into_iter().find_map(|soc| {
        let folder = platform.join(soc);
        names(&folder, "soc").into_iter().find_map(|firmware| {
            let digits = text(&folder.join(firmware).join("get_throttled"))?;
            u32::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
        })
    })
}

/// The same bits from the vendor's program, where it is installed and the kernel has no file.
fn vcgencmd(root: &Path) -> Option<u32> {
    let program = root.join("usr/bin/vcgencmd");
    if !program.exists() {
        return None;
    }
    let mut child = Command::new(program)
        .arg("get_throttled")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + VCGENCMD_WAIT;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(VCGENCMD_POLL);
    }
    parse_vcgencmd(&String::from_utf8(child.wait_with_output().ok()?.stdout).ok()?)
}

/// `throttled=0x50005`.
fn parse_vcgencmd(answer: &str) -> Option<u32> {
    u32::from_str_radix(answer.trim().strip_prefix("throttled=0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of a board, as recorded there.
    fn board(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn a_raspberry_pi_4_is_read_whole() {
        let root = board(&[
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "1800000\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "600000\n"),
            ("sys/devices/system/cpu/cpuidle/current_driver", "none\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "48686\n"),
            ("proc/loadavg", "0.53 0.40 0.30 1/200 999\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ]);
        let conditions = read(root.path());
        assert_eq!(conditions.frequencies_khz, [1_500_000, 600_000]);
        assert_eq!(conditions.governor.as_deref(), Some("ondemand"));
        assert_eq!(conditions.temperatures, [("cpu-thermal".to_string(), 48_686)]);
        assert_eq!(conditions.load_milli, Some(530));
        assert_eq!(conditions.throttle_bits, Some(0x50005));
        assert_eq!(conditions.power_mode, None);
        assert_eq!(cpufreq(root.path(), 0, "cpuinfo_max_freq"), Some(1_800_000));
        assert_eq!(core_frequencies_khz(root.path(), &[1]), [600_000]);
        assert_eq!(core_frequencies_khz(root.path(), &[1, 7]), Vec::<u32>::new());
    }

    #[test]
    fn a_jetson_and_a_pi_5_keep_theirs_elsewhere() {
        let jetson = board(&[("var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n")]);
        assert_eq!(read(jetson.path()).power_mode.as_deref(), Some("pmode:0002 fmode:quiet"));
        let address = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
        assert_eq!(throttle_bits(board(&[(address, "0x8\n")]).path()), Some(8));
    }

    #[test]
    fn what_has_just_begun_and_goes_on_counts() {
        let seen = |lines: &[&str]| {
            let mut lines = lines.iter().cycle();
            load_milli(|| lines.next().map(ToString::to_string))
        };
        assert_eq!(seen(&["0.10 0.40 0.30 1/200 999"]), Some(100), "this process itself");
        assert_eq!(seen(&["0.10 0.40 0.30 4/200 999"]), Some(3000));
        assert_eq!(seen(&["0.10 0.40 0.30 4/200 999", "0.10 0.40 0.30 2/200 999"]), Some(1000));
        assert_eq!(
            seen(&["0.10 0.40 0.30 4/200 999", "0.10 0.40 0.30 1/200 999"]),
            Some(100),
            "whoever asked"
        );
        assert_eq!(seen(&["5.50 0.40 0.30 4/200 999"]), Some(5500));
        assert_eq!(seen(&["0.25"]), Some(250));
    }

    #[test]
    fn what_does_not_exist_is_unknown() {
        assert_eq!(read(board(&[]).path()), Conditions::default());
        let garbage = board(&[
            ("proc/loadavg", "nan\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "hot\n"),
            ("sys/class/thermal/thermal_zone0/temp", "1\n"),
        ]);
        assert_eq!(read(garbage.path()), Conditions::default());
        assert_eq!(parse_vcgencmd("throttled=0x50000\n"), Some(0x50000));
        assert_eq!(parse_vcgencmd("error=1\n"), None);
    }
}
