//! Something to connect to: an address together with the key that opens it.

use super::address::Address;
use super::book::{Book, BookError};
use super::error::BoardError;
use super::home::Home;
use super::local::LocalProgram;
use n2n_protocol::key::Key;
use n2n_serial::Settings;
use std::fmt;

/// A board, ready to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An agent of our own, as a child process.
    Local(LocalProgram),
    /// An agent that listens.
    Tcp {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// The key it shares with us.
        key: Key,
    },
    /// An agent at the other end of a serial line.
    Serial {
        /// The device file, and how fast.
        settings: Settings,
        /// The key it shares with us.
        key: Key,
    },
}

impl Endpoint {
    /// What an address means for this user.
    ///
    /// # Errors
    /// [`BoardError::Book`] for an unknown name or key.
    pub fn resolve(address: &Address, home: &Home) -> Result<Self, BoardError> {
        match address {
            Address::Local => LocalProgram::of_this_program(home).map(Self::Local),
            Address::Tcp { .. } | Address::Serial { .. } => {
                let book = Book::read(&home.book())?;
                let missing = || BookError::NoKey(address.to_string());
                Self::keyed(address, book.key_of(address)?).ok_or_else(missing).map_err(BoardError::from)
            }
            Address::Name(name) => {
                let entry = Book::read(&home.book())?.board(name)?.clone();
                match Self::keyed(&entry.address, &entry.key) {
                    Some(endpoint) => Ok(endpoint),
                    None => Self::resolve(&entry.address, home),
                }
            }
        }
    }

    /// An address with its key; `None` for one that has no key of its own.
    pub fn keyed(address: &Address, key: &Key) -> Option<Self> {
        let key = key.clone();
        match address {
            Address::Tcp { host, port } => Some(Self::Tcp { host: host.clone(), port: *port, key }),
            Address::Serial { device, baud } => {
                Some(Self::Serial { settings: Settings { device: device.clone(), baud: *baud }, key })
            }
            Address::Local | Address::Name(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    /// As an address.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let address = match self {
            Self::Local(_) => Address::Local,
            Self::Tcp { host, port, .. } => Address::Tcp { host: host.clone(), port: *port },
            Self::Serial { settings: Settings { device, baud }, .. } => {
                Address::Serial { device: device.clone(), baud: *baud }
            }
        };
        address.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Entry;

    #[test]
    fn names_and_addresses_of_the_book_get_their_key_and_others_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let address: Address = "tcp://10.0.0.7:1".parse().unwrap();
        let key: Key = "ab".repeat(32).parse().unwrap();
        let missing = Endpoint::resolve(&address, &home).unwrap_err();
        assert!(missing.hint().unwrap().contains("n2n board add"), "{missing}");
        let mut book = Book::read(&home.book()).unwrap();
        book.add("pi", Entry { address: address.clone(), key: key.clone() }).unwrap();
        let expected = Endpoint::Tcp { host: "10.0.0.7".to_owned(), port: 1, key: key.clone() };
        assert_eq!(Endpoint::resolve(&address, &home), Ok(expected.clone()));
        assert_eq!(Endpoint::resolve(&"pi".parse().unwrap(), &home), Ok(expected));
        let line: Address = "serial:///dev/ttyUSB0?baud=115200".parse().unwrap();
        book.add("nano", Entry { address: line.clone(), key: key.clone() }).unwrap();
        let expected =
            Endpoint::Serial { settings: Settings { device: "/dev/ttyUSB0".into(), baud: 115_200 }, key };
        assert_eq!(expected.to_string(), line.to_string());
        assert_eq!(Endpoint::resolve(&line, &home), Ok(expected.clone()));
        assert_eq!(Endpoint::resolve(&"nano".parse().unwrap(), &home), Ok(expected));
        assert!(
            Endpoint::resolve(&"serial:///dev/ttyUSB0".parse().unwrap(), &home).is_err(),
            "another speed"
        );
        assert!(matches!(Endpoint::resolve(&Address::Local, &home), Ok(Endpoint::Local(_))));
    }
}
