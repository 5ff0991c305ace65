//! Configurations: files, certificates by name, and the checks of a client.

use super::*;

// ── configurations ───────────────────────────────────────────────────────────────────────────────

#[test]
fn a_configuration_that_is_wrong_is_refused_with_the_name_of_its_file() {
    let [server, key, other_key] = ["server.pem", "server.key", "other.key"].map(file);
    let [expired, expired_key] = ["expired.pem", "expired.key"].map(file);
    let [future, future_key] = ["future.pem", "future.key"].map(file);
    let [missing, script] = ["missing.pem", "make"].map(file);
    let folder = file("");
    let cases = [
        (
            &missing,
            &key,
            "the certificate file FILE does not exist",
            &missing,
        ),
        (
            &server,
            &missing,
            "the private key file FILE does not exist",
            &missing,
        ),
        (
            &key,
            &key,
            "FILE holds no certificate in PEM, but a private key",
            &key,
        ),
        (
            &server,
            &server,
            "FILE holds no private key in PEM, but a certificate",
            &server,
        ),
        (&script, &key, "FILE holds no certificate in PEM", &script),
        (
            &folder,
            &key,
            "cannot read the certificate file FILE: ",
            &folder,
        ),
        (
            &server,
            &other_key,
            "the private key in FILE does not belong to the certificate in ",
            &other_key,
        ),
        (
            &expired,
            &expired_key,
            "the certificate in FILE expired on Fri, 01 Jan 2021 00:00:00 GMT",
            &expired,
        ),
        (
            &future,
            &future_key,
            "the certificate in FILE is valid only from Sun, 01 Jan 2119 00:00:00 GMT on",
            &future,
        ),
    ];
    for (certificate, key, expected, path) in cases {
        let error = ServerTls::builder()
            .pair(certificate, key)
            .build()
            .unwrap_err();
        let expected = expected.replace("FILE", path);
        let error = error.to_string();
        assert!(error.starts_with(&expected), "{error}");
    }
    let error = ServerTls::builder().build().unwrap_err().to_string();
    assert_eq!(error, "TLS needs a certificate and its key");
    let error = builder(&["server"])
        .client_ca(&missing)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the certificate file {missing} does not exist")
    );
    let error = ClientTls::builder().ca(&key).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{key} holds no certificate in PEM, but a private key")
    );
}

#[test]
fn the_end_of_each_certificate_is_known() {
    let tls = builder(&["server", "server_rsa"]).build().unwrap();
    // 2120-01-01.
    let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(4_733_510_400);
    let certificates = tls.certificates();
    let ends: Vec<_> = (certificates.iter())
        .map(|it| (it.file().to_str().unwrap(), it.expires_at()))
        .collect();
    let [server, rsa] = ["server.pem", "server_rsa.pem"].map(file);
    assert_eq!(ends, [(&*server, expected), (&*rsa, expected)]);
}

#[test]
fn files_with_other_contents_are_refused() {
    let directory = std::env::temp_dir().join(format!("waterwheel-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("file.pem");
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    let (server, authority) = (read("server.pem"), read("ca.pem"));
    let half = &server[..server.len() / 2];
    let broken = server.replace("MII", "!!!");
    let turned = format!("{authority}{server}");
    let long = "a log line\n".repeat(100_000);
    let der = [0x30, 0x82, 1, 0];
    let garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let certificates: [(&[u8], &str); 6] = [
        (&der, "is not PEM but DER; `openssl x509 -inform der"),
        (half.as_bytes(), "the line that ends a section is missing"),
        (broken.as_bytes(), "is not PEM: "),
        (garbage, "cannot be used: "),
        (turned.as_bytes(), "must be the server's own"),
        (long.as_bytes(), "has more than 1 MiB"),
    ];
    let [certificate, key] = ["server.pem", "server.key"].map(file);
    for (bytes, expected) in certificates {
        std::fs::write(&path, bytes).unwrap();
        let error = ServerTls::builder().pair(&path, &key).build().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbage = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    // Line breaks get lost in variables of the environment and in JSON. The error must not show the key.
    let secret = "MIIEsecret".repeat(20);
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    let unbroken = format!("{begin}{secret}{end}");
    let literal = format!("{begin}\\n{secret}\\n{end}\n");
    let keys: [(&[u8], &str); 5] = [
        (unbroken.as_bytes(), "is not PEM: "),
        (literal.as_bytes(), "is not PEM: "),
        (&der, "is not PEM but DER; `openssl pkey -inform der"),
        (encrypted, "is encrypted; `openssl pkey"),
        (garbage, "cannot be used: "),
    ];
    for (bytes, expected) in keys {
        std::fs::write(&path, bytes).unwrap();
        let error = ServerTls::builder()
            .pair(&certificate, &path)
            .build()
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The common name of the certificate that a client gets that asks for `name`.
fn certificate_for(tls: &ServerTls, name: &'static str, config: Arc<ClientConfig>) -> Vec<u8> {
    let mut sim = Sim::new(Log::new(), |reactor| {
        echo(reactor, ListenOptions::new("0.0.0.0:443").tls(tls.clone()));
    });
    let mut config = (*config).clone();
    config.dangerous().set_certificate_verifier(Arc::new(Any));
    let name = ServerName::try_from(name).unwrap();
    let stream = sim.connect();
    let mut peer = Peer::named(stream, Arc::new(config), name);
    peer.settle(&mut sim);
    peer.tls.peer_certificates().unwrap()[0].to_vec()
}

/// Accepts every certificate, to look at it.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls_graviola::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_the_client_asks_for() {
    let tls = builder(&["server", "other", "server_rsa"]).build().unwrap();
    let cases = [
        ("localhost", "server"),
        ("example.org", "server"),
        ("other.example", "other"),
        ("rsa.example.org", "server_rsa"),
        ("unknown.example", "server"),
        ("127.0.0.1", "server"),
    ];
    for version in VERSIONS {
        for (name, pair) in cases {
            let der = CertificateDer::from_pem_file(file(&format!("{pair}.pem"))).unwrap();
            let got = certificate_for(&tls, name, client_config(&[version]));
            assert!(got == der.to_vec(), "{name}: expected {pair}");
        }
    }
}

#[test]
fn new_connections_get_the_certificate_that_has_replaced_the_old_one() {
    let tls = builder(&["server"]).build().unwrap();
    let mut sim = Sim::new(Log::new(), |reactor| {
        echo(reactor, ListenOptions::new("0.0.0.0:443").tls(tls.clone()));
    });
    let mut old = Peer::new(sim.connect(), client_config(&VERSIONS));
    old.settle(&mut sim);
    tls.replace(server_tls("server_rsa"));
    let mut new = Peer::new(sim.connect(), client_config(&VERSIONS));
    new.settle(&mut sim);
    let lengths = [&old, &new].map(|peer| peer.tls.peer_certificates().unwrap()[0].len());
    assert!(lengths[0] < lengths[1], "{lengths:?}");
    for peer in [&mut old, &mut new] {
        peer.send(b"still here");
        peer.settle(&mut sim);
        assert_eq!(peer.received(), b"still here");
    }
}

// ── the checks of a client ───────────────────────────────────────────────────────────────────────

/// The end of a client's connection to a server with this TLS, as its `on_close` tells it, and the log.
fn end_of(server: ServerTls, client: ClientTls, address: &str) -> (String, Log, Stats) {
    let mut sim = Sim::new(Log::new(), |reactor| {
        echo(reactor, ListenOptions::new("0.0.0.0:443").tls(server));
    });
    let options = ConnectOptions::new(address).tls(client);
    let connecting = sim.reactor().connect_stream(options, |stream| {
        stream.on_open(|stream| stream.send("hello"));
        stream.on_data(|stream, _| stream.close());
        stream.on_close(|stream, close| stream.state.insert(0, close.to_string()));
    });
    connecting.unwrap();
    sim.settle();
    sim.advance(Duration::from_secs(60));
    let stats = sim.reactor().stats().clone();
    let mut log = std::mem::take(sim.state());
    (log.remove(0), log, stats)
}

#[test]
fn a_client_refuses_a_server_whose_certificate_is_not_right() {
    let fingerprint = |pair: &str| {
        let output = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(file(&format!("{pair}.pem")))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().split_once('=').unwrap().1.to_owned()
    };
    let pinned = |pair: &str| {
        let builder = ClientTls::builder().pin_sha256(fingerprint(pair));
        builder.build().unwrap()
    };
    let config = |pair: &str| ServerTls::new(server_config(pair));
    let cases = [
        ("server", ca(), "localhost:443", "closed by us"),
        ("server", ca(), "127.0.0.1:443", "closed by us"),
        (
            "server",
            ca().server_name("example.org"),
            "10.0.0.1:443",
            "closed by us",
        ),
        (
            "server",
            ca(),
            "wrong.example:443",
            "TLS failed: the certificate is for another host",
        ),
        (
            "other",
            ca(),
            "localhost:443",
            "TLS failed: the certificate is for another host",
        ),
        (
            "expired",
            ca(),
            "localhost:443",
            "TLS failed: the certificate has expired",
        ),
        (
            "future",
            ca(),
            "localhost:443",
            "TLS failed: the certificate is not valid yet",
        ),
        (
            "self_signed",
            ca(),
            "localhost:443",
            "TLS failed: the certificate is self-signed or of an authority that is not trusted",
        ),
        (
            "self_signed",
            pinned("self_signed"),
            "wrong.example:443",
            "closed by us",
        ),
        ("server", pinned("server"), "localhost:443", "closed by us"),
        (
            "server",
            pinned("other"),
            "localhost:443",
            "TLS failed: the certificate is not the pinned one: its SHA-256 fingerprint is ",
        ),
        (
            "expired",
            pinned("expired"),
            "localhost:443",
            "TLS failed: the certificate has expired",
        ),
    ];
    for (pair, client, address, expected) in cases {
        let (end, log, stats) = end_of(config(pair), client, address);
        assert!(end.starts_with(expected), "{pair}, {address}: {end}");
        let failed = expected.starts_with("TLS");
        assert_eq!(log.is_empty(), failed, "{log:?}");
        // The client's failure, and at the server the alert.
        let failures: Vec<_> = stats.tls_failures.iter().collect();
        assert_eq!(failures.len(), if failed { 2 } else { 0 }, "{failures:?}");
        assert_eq!(stats.tls_handshakes, if failed { 0 } else { 2 });
    }
}

#[test]
fn a_server_with_a_client_ca_requires_a_certificate() {
    let server = || {
        builder(&["server"])
            .client_ca(file("ca.pem"))
            .build()
            .unwrap()
    };
    let client = |pair: &str| {
        let builder = ClientTls::builder().ca(file("ca.pem"));
        let pair = [format!("{pair}.pem"), format!("{pair}.key")].map(|name| file(&name));
        builder.pair(&pair[0], &pair[1]).build().unwrap()
    };
    let (end, log, _) = end_of(server(), client("client"), "localhost:443");
    assert_eq!((end.as_str(), log[0].as_str()), ("closed by us", "open"));
    for (client, failure) in [
        (ca(), "certificate_missing"),
        (client("stranger"), "unknown_issuer"),
    ] {
        let (end, log, stats) = end_of(server(), client, "localhost:443");
        assert!(end.starts_with("TLS failed: the peer refused"), "{end}");
        assert_eq!(log, Log::new());
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        assert_eq!(
            stats.tls_failures.iter().collect::<Vec<_>>(),
            [(failure, 1)]
        );
    }
}

#[test]
fn a_session_is_resumed() {
    for version in VERSIONS {
        let mut sim = echo_sim();
        let config = client_config(&[version]);
        for round in 0..3 {
            let mut peer = Peer::new(sim.connect(), Arc::clone(&config));
            peer.settle(&mut sim);
            peer.send(b"x");
            peer.settle(&mut sim);
            assert_eq!(peer.received(), b"x");
            let stats = sim.reactor().stats();
            assert_eq!((stats.tls_handshakes, stats.tls_resumptions), (1, round));
        }
    }
}

// Runs itself as a program of its own, because the variable is one of the whole process.
#[test]
fn the_authorities_of_the_system_are_looked_for_again_after_a_failure() {
    let name = "configuration::the_authorities_of_the_system_are_looked_for_again_after_a_failure";
    if let Some(path) = std::env::var_os("WATERWHEEL_TEST_AUTHORITIES") {
        ClientTls::system().unwrap_err();
        std::fs::copy(file("ca.pem"), path).unwrap();
        ClientTls::system().unwrap();
        return;
    }
    let path = std::env::temp_dir().join(format!("waterwheel-roots-{}", std::process::id()));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("WATERWHEEL_TEST_AUTHORITIES", &path)
        .env("SSL_CERT_FILE", &path)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    std::fs::remove_file(path).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
