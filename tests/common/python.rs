//! A Python with the packages that `spec/reader.py` needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The same as in `.ci/run`.
const PACKAGES: [&str; 3] = ["blake3==1.0.11", "zstandard==0.25.0", "cbor2==6.3.0"];

/// The interpreter: `PEFC_PYTHON` if set, else the one in `target/python`, which is made if need be.
///
/// # Panics
/// If there is none and none can be made: the second reader is a part of the tests.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if let Some(python) = std::env::var_os("PEFC_PYTHON") {
            return PathBuf::from(python);
        }
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python");
        let python = home.join("bin/python");
        if !works(&python) {
            make(&home, &python);
        }
        python
    })
}

fn works(python: &Path) -> bool {
    let imports = Command::new(python).args(["-c", "import blake3, cbor2, zstandard"]).output();
    imports.is_ok_and(|output| output.status.success())
}

/// Several test programs may come here at once: one makes the environment, the others wait.
fn make(home: &Path, python: &Path) {
    std::fs::create_dir_all(home).unwrap();
    let lock = std::fs::File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if works(python) {
        return;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home));
    let mut install = Command::new(python);
    run(install.args(["-m", "pip", "install", "--quiet", "--no-input"]).args(PACKAGES));
    assert!(works(python), "{} lacks packages after pip installed them", python.display());
    std::fs::write(home.join("installed"), PACKAGES.join(" ")).unwrap();
}

fn run(command: &mut Command) {
    let hint = "the tests run spec/reader.py and need Python 3.11 with venv and pip, or the \
                environment variable PEFC_PYTHON naming a Python that has blake3, zstandard and cbor2";
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    assert!(
        output.status.success(),
        "{command:?}: {}; {hint}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `spec/reader.py`.
pub fn reader(command: &str, pack: &Path, more: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/reader.py");
    Command::new(python())
        .args([script.as_os_str(), command.as_ref(), pack.as_os_str()])
        .args(more)
        .output()
        .unwrap()
}
