//! Certificates of `tests/certificates`, and an authority that makes others with `openssl`.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a file of `tests/certificates`.
pub fn file(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    directory.join(name).to_str().unwrap().to_owned()
}

/// An authority between `ca.pem` and servers. Its folder of keys and certificates goes with it.
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// The name is for the folder.
    pub fn new(name: &str) -> Authority {
        let name = format!("waterwheel-{name}-{}", std::process::id());
        let authority = Authority {
            directory: std::env::temp_dir().join(name),
        };
        fs::create_dir_all(&authority.directory).unwrap();
        let extensions = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        let ca = ["ca.pem", "ca.key"].map(file);
        authority.sign("between authorities", "ec", extensions, ca);
        authority
    }

    /// The paths of a certificate for `localhost`, with the authority's behind it, and of its key, which is `ec` or
    /// `rsa`. It is valid for 90 days.
    pub fn server(&self, algorithm: &str) -> [String; 2] {
        let extensions = "basicConstraints=CA:false\nkeyUsage=critical,digitalSignature\n\
             extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
        let issuer =
            ["pem", "key"].map(|ending| self.path(&format!("between authorities.{ending}")));
        self.sign(algorithm, algorithm, extensions, issuer.clone());
        let certificate = self.path(&format!("{algorithm}.pem"));
        let chain = [certificate.clone(), issuer[0].clone()].map(|path| fs::read(path).unwrap());
        fs::write(&certificate, chain.concat()).unwrap();
        [certificate, self.path(&format!("{algorithm}.key"))]
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn sign(&self, name: &str, algorithm: &str, extensions: &str, issuer: [String; 2]) {
        let [pem, key, request, extension_file] = ["pem", "key", "request", "extensions"]
            .map(|ending| self.path(&format!("{name}.{ending}")));
        fs::write(&extension_file, extensions).unwrap();
        let kind: &[&str] = match algorithm {
            "ec" => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            _ => &["rsa:2048"],
        };
        let subject = format!("/CN={name}");
        let words = [
            "req", "-new", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request,
            "-newkey",
        ];
        openssl(&[&words[..], kind].concat());
        let [issuer, issuer_key] = issuer;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-out",
            &pem,
            "-days",
            "90",
            "-extfile",
            &extension_file,
            "-CA",
            &issuer,
            "-CAkey",
            &issuer_key,
        ]);
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn openssl(words: &[&str]) {
    let output = Command::new("openssl").args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
}
