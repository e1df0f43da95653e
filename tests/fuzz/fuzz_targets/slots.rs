//! The slots' files: any bytes are an error, or facts that are written and read again as themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_agent::slots::fuzzing::read_as_every_file;

fuzz_target!(|bytes: &[u8]| read_as_every_file(bytes));
