//! Keys and certificates for a Kafka broker that speaks TLS, made by the JDK's keytool: it is there where the
//! broker is.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The password of every store made here.
pub const PASSWORD: &str = "only-for-tests";

/// A folder of key stores (PKCS#12) and certificates (PEM).
#[derive(Clone, Debug)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes, in `folder`: the broker's key, whose certificate names 127.0.0.1; a client's key that the broker
    /// trusts; and a stranger's that it does not.
    ///
    /// # Errors
    /// What keytool said.
    pub fn make(folder: &Path) -> io::Result<Self> {
        let keys = Keys { folder: folder.to_owned() };
        keys.pair("server", &["-ext", "SAN=ip:127.0.0.1"])?;
        keys.pair("client", &[])?;
        keys.pair("stranger", &[])?;
        let certificate = keys.certificate("client");
        let trust = keys.store("trust");
        keytool(&[
            "-importcert",
            "-noprompt",
            "-alias",
            "client",
            "-file",
            &text(&certificate),
            "-keystore",
            &text(&trust),
            "-storepass",
            PASSWORD,
        ])?;
        Ok(keys)
    }

    /// The key store of `server`, `client` or `stranger`, or the certificates that the broker trusts: `trust`.
    pub fn store(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.p12"))
    }

    /// The certificate of `server`, `client` or `stranger`, in PEM.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    fn pair(&self, name: &str, more: &[&str]) -> io::Result<()> {
        let (store, certificate) = (text(&self.store(name)), text(&self.certificate(name)));
        let owner = format!("CN={name}");
        let of_store = ["-alias", name, "-keystore", &store, "-storepass", PASSWORD];
        let made =
            ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "7", "-dname", &owner];
        keytool(&[&made[..], &of_store[..], more].concat())?;
        keytool(&[&["-exportcert", "-rfc", "-file", &certificate][..], &of_store[..]].concat())
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn keytool(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("keytool").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Err(io::Error::other(format!("keytool {}: {said}", arguments.first().copied().unwrap_or_default())))
}
