//! Something to connect to: an address together with the key that opens it.

use super::address::Address;
use super::book::Book;
use super::error::BoardError;
use super::home::Home;
use super::local::LocalProgram;
use n2n_protocol::key::Key;
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
}

impl Endpoint {
    /// What an address means for this user.
    ///
    /// # Errors
    /// [`BoardError::Book`] for an unknown name or key, [`BoardError::Unsupported`] for a serial line.
    pub fn resolve(address: &Address, home: &Home) -> Result<Self, BoardError> {
        match address {
            Address::Local => LocalProgram::of_this_program(home).map(Self::Local),
            Address::Tcp { host, port } => {
                let key = Book::read(&home.book())?.key_of(address)?.clone();
                Ok(Self::Tcp { host: host.clone(), port: *port, key })
            }
            Address::Serial(_) => Err(BoardError::Unsupported {
                board: address.to_string(),
                reason: "serial links come with a later version".to_owned(),
            }),
            Address::Name(name) => {
                let entry = Book::read(&home.book())?.board(name)?.clone();
                match entry.address {
                    Address::Tcp { host, port } => Ok(Self::Tcp { host, port, key: entry.key }),
                    other => Self::resolve(&other, home),
                }
            }
        }
    }
}

impl fmt::Display for Endpoint {
    /// As an address.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let address = match self {
            Self::Local(_) => Address::Local,
            Self::Tcp { host, port, .. } => Address::Tcp { host: host.clone(), port: *port },
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
        let expected = Endpoint::Tcp { host: "10.0.0.7".to_owned(), port: 1, key };
        assert_eq!(Endpoint::resolve(&address, &home), Ok(expected.clone()));
        assert_eq!(Endpoint::resolve(&"pi".parse().unwrap(), &home), Ok(expected));
        let serial = Endpoint::resolve(&"serial:///dev/ttyUSB0".parse().unwrap(), &home).unwrap_err();
        assert!(serial.to_string().contains("later version"), "{serial}");
        assert!(matches!(Endpoint::resolve(&Address::Local, &home), Ok(Endpoint::Local(_))));
    }
}
