//! Facts about a board that stay the same, and the fingerprint over them. Its engines are put in by whoever knows them.

use super::conditions::{self, text};
use n2n_protocol::{Board, Digest, limits};
use std::path::Path;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// No other digest is taken for a fingerprint.
const PURPOSE: &str = "n2n board 1";

/// Identity and condition; device-tree files are looked for under `root`.
pub(super) fn board(root: &Path) -> Board {
    let wanted = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).ok();
    let brand = system.as_ref().and_then(|system| Some(system.cpus().first()?.brand().trim().to_string()));
    let model = text(&root.join("proc/device-tree/model"))
        .or(brand.filter(|brand| !brand.is_empty()))
        .unwrap_or_else(|| "unknown".into());
    let mut board = Board {
        name: short(System::host_name().unwrap_or_else(|_| "unknown".into())),
        model: short(model),
        class: class(root),
        architecture: std::env::consts::ARCH.into(),
        system: short(description_of_the_system()),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(limits::CORES) as u16),
        memory_bytes: system.map_or(0, |system| system.total_memory()),
        fingerprint: Digest([0; 32]),
        engines: Vec::new(),
        conditions: conditions::read(root),
    };
    board.fingerprint = fingerprint(&board);
    board
}

fn description_of_the_system() -> String {
    let distribution = System::long_os_version().unwrap_or_else(|_| "unknown system".into());
    let kernel = System::kernel_version().unwrap_or_else(|_| "unknown".into());
    format!("{distribution}, kernel {kernel}")
}

/// The device tree's most exact name for this kind of board, else the instruction set.
fn class(root: &Path) -> String {
    // The file is a list of names, each ended by a zero byte, the most exact one first.
    let compatible = text(&root.join("proc/device-tree/compatible"));
    let first =
        compatible.as_deref().and_then(|list| list.split('\0').next()).filter(|name| !name.is_empty());
    first.map_or_else(|| format!("{}-linux", std::env::consts::ARCH), |name| short(name.into()))
}

/// At most what the wire takes.
fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::NAME_BYTES));
    text
}

/// SHA-256 over the stable facts. The kernel is one of them: another scheduler is another board to a stopwatch.
fn fingerprint(board: &Board) -> Digest {
    let (cores, memory) = (board.cores.to_string(), board.memory_bytes.to_string());
    let facts =
        [PURPOSE, &board.name, &board.model, &board.architecture, &board.system, &cores, &memory].join("\n");
    Digest::of(facts.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_and_stays_itself() {
        let here = board(Path::new("/"));
        assert!(here.cores >= 1 && here.memory_bytes > 1 << 20);
        assert_eq!(board(Path::new("/")).fingerprint, here.fingerprint);
    }

    #[test]
    fn the_device_tree_names_the_board_and_conditions_do_not_change_the_fingerprint() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/device-tree")).unwrap();
        std::fs::write(root.path().join("proc/device-tree/model"), "Raspberry Pi 4 Model B Rev 1.4\0")
            .unwrap();
        let pi = board(root.path());
        assert_eq!(pi.model, "Raspberry Pi 4 Model B Rev 1.4");
        assert_ne!(pi.fingerprint, board(Path::new("/")).fingerprint);
        std::fs::write(root.path().join("proc/loadavg"), "9.00 1 1\n").unwrap();
        let busy = board(root.path());
        assert_ne!(busy.conditions, pi.conditions);
        assert_eq!(busy.fingerprint, pi.fingerprint);
    }
}
