//! What a user writes after `--board`. Parsed once; nothing here opens a connection.

use n2n_serial::{DEFAULT_BAUD, MAX_BAUD, MIN_BAUD};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The agent's port where an address names none.
pub const DEFAULT_PORT: u16 = 7117;

/// A board as named by a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An agent on this machine, started for the purpose.
    Local,
    /// `tcp://HOST:PORT`.
    Tcp {
        /// Name or address; IPv6 without its brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// `serial:///dev/ttyUSB0`, or with `?baud=115200`.
    Serial {
        /// The device file.
        device: PathBuf,
        /// Bits in a second.
        baud: u32,
    },
    /// A name from the book.
    Name(String),
}

/// A text that names no board.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither of the known forms.
    #[error(
        "`{0}` is no board: local, tcp://HOST:PORT, serial:///dev/DEVICE, or a name from `n2n board list` expected"
    )]
    Form(String),
    /// A port that is none.
    #[error("`{text}`: port `{port}` is not a number from 1 to 65535")]
    Port {
        /// All of it.
        text: String,
        /// The port.
        port: String,
    },
    /// A speed that is none.
    #[error("`{text}`: `{baud}` is not a speed from {MIN_BAUD} to {MAX_BAUD} baud")]
    Baud {
        /// All of it.
        text: String,
        /// The speed.
        baud: String,
    },
}

impl AddressError {
    /// The next step for a user, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            // HOST:PORT without the form's name in front.
            Self::Form(text) => {
                format!("tcp://{text}").parse().ok().map(|meant: Address| format!("did you mean {meant}?"))
            }
            Self::Port { .. } | Self::Baud { .. } => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        if text == "local" {
            return Ok(Self::Local);
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            let (host, port) = split_port(rest).ok_or_else(form)?;
            let port = match port {
                None => DEFAULT_PORT,
                Some(port) => port
                    .parse()
                    .ok()
                    .filter(|&port| port != 0)
                    .ok_or_else(|| AddressError::Port { text: text.to_owned(), port: port.to_owned() })?,
            };
            return Ok(Self::Tcp { host: host.to_owned(), port });
        }
        // `serial:/dev/…` is what people write after reading `serial:` somewhere.
        if let Some(rest) = text.strip_prefix("serial://").or_else(|| text.strip_prefix("serial:")) {
            let (device, baud) = match rest.split_once("?baud=") {
                None => (rest, DEFAULT_BAUD),
                Some((device, baud)) => (
                    device,
                    baud.parse()
                        .ok()
                        .filter(|baud| (MIN_BAUD..=MAX_BAUD).contains(baud))
                        .ok_or_else(|| AddressError::Baud { text: text.to_owned(), baud: baud.to_owned() })?,
                ),
            };
            let is_path = device.starts_with('/') && !device.contains('?');
            return if is_path { Ok(Self::Serial { device: device.into(), baud }) } else { Err(form()) };
        }
        if is_name(text) { Ok(Self::Name(text.to_owned())) } else { Err(form()) }
    }
}

/// Host, and port if there is one; `None` when there is no host or something is left over.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    (!host.is_empty() && host.chars().all(plain)).then_some((host, port))
}

/// Names that can stand in the book: short, and never mistaken for another form.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text != "local"
        && (1..=64).contains(&text.len())
        && text.chars().all(plain)
        && !text.starts_with(['-', '.'])
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Local => formatter.write_str("local"),
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "tcp://{host}:{port}"),
            Self::Serial { device, baud } => {
                write!(formatter, "serial://{}", device.display())?;
                if *baud == DEFAULT_BAUD { Ok(()) } else { write!(formatter, "?baud={baud}") }
            }
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood_and_written_back() {
        for text in [
            "local",
            "tcp://10.0.0.7:7117",
            "tcp://[fe80::1%eth0]:80",
            "serial:///dev/ttyUSB0",
            "serial:///dev/ttyAMA0?baud=115200",
            "pi-4.kitchen",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let parsed = "tcp://board.local".parse();
        assert_eq!(parsed, Ok(Address::Tcp { host: "board.local".to_owned(), port: DEFAULT_PORT }));
        let serial = Address::Serial { device: "/dev/ttyS0".into(), baud: DEFAULT_BAUD };
        assert_eq!("serial:/dev/ttyS0".parse(), Ok(serial.clone()));
        assert_eq!(format!("serial:///dev/ttyS0?baud={DEFAULT_BAUD}").parse(), Ok(serial));
    }

    #[test]
    fn what_is_no_board_is_repeated_in_the_error() {
        for text in [
            "",
            "tcp://",
            "tcp://:80",
            "tcp://[::1",
            "tcp://[::1]80",
            "serial:ttyUSB0",
            "serial:///dev/ttyUSB0?speed=9600",
            "serial:///dev/ttyUSB0?x?baud=9600",
            "http://x",
            "a b",
            "-x",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Form(text.to_owned())), "{text}");
        }
        let meant = "192.168.1.20:7117".parse::<Address>().unwrap_err().hint();
        assert_eq!(meant.unwrap(), "did you mean tcp://192.168.1.20:7117?");
        assert_eq!("http://x".parse::<Address>().unwrap_err().hint(), None);
        for port in ["0", "65536", "x", ""] {
            let error = format!("tcp://h:{port}").parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("port `{port}`")), "{error}");
        }
        for baud in ["0", "300", "1e6", "99999999999", ""] {
            let error = format!("serial:///dev/x?baud={baud}").parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{baud}` is not a speed")), "{error}");
        }
    }
}
