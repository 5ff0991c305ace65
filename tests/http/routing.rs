//! Routes, parameters, queries and forms.

use waterwheel::Sim;

use crate::support::{answer, get, post};
use crate::{HOST, ask, exchange};

#[test]
fn an_unsupported_method_is_405_with_the_allowed_ones() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/a", |request| request.reply("got"));
            router.post("/a", |request| request.reply("posted"));
            router.method("DELETE", "/b/:id", |request| request.reply("deleted"));
            router.websocket("/ws", |_| {});
            router.method("*", "/any", |request| {
                let method = request.method().to_owned();
                request.reply(method)
            });
        })
    });
    let cases = [
        ("DELETE", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
        ("PUT", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
        ("GET", "/b/1", 405, Some("DELETE, OPTIONS")),
        ("DELETE", "/b/1", 200, None),
        ("DELETE", "/c", 404, None),
        ("OPTIONS", "/a", 204, Some("GET, POST, HEAD, OPTIONS")),
        ("OPTIONS", "*", 204, Some("OPTIONS")),
        ("OPTIONS", "/c", 404, None),
        ("CONNECT", "h:80", 405, Some("OPTIONS")),
        ("PATCH", "/any", 200, None),
        ("OPTIONS", "/any", 200, None),
        ("POST", "/ws", 405, Some("GET, HEAD, OPTIONS")),
        ("OPTIONS", "/ws", 204, Some("GET, HEAD, OPTIONS")),
        ("GET", "/ws", 426, None),
        ("TRACE", "/a", 405, Some("GET, POST, HEAD, OPTIONS")),
    ];
    for (method, target, status, allow) in cases {
        let request = format!("{method} {target} HTTP/1.1\r\n{HOST}\r\n");
        let (bytes, is_closed) = exchange(&mut sim, &[request.as_bytes()]);
        let answered = answer(&bytes);
        assert_eq!(answered.status, status, "{method} {target}");
        assert_eq!(answered.header("allow"), allow, "{method} {target}");
        assert!(!is_closed, "{method} {target}");
    }
}

#[test]
fn one_port_serves_parameters_and_several_protocols() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/", |request| request.reply("page"));
            router.get("/chat", |request| request.event_stream().subscribe("chat"));
            router.get("/rooms/:room/users/:user", |request| {
                let text = format!(
                    "{:?} {:?} {:?}",
                    request.param("room"),
                    request.param("user"),
                    request.param("other")
                );
                request.reply(text)
            });
            router.get("/files/*", |request| {
                let path = request.path().to_owned();
                request.reply(path)
            });
            router.websocket("/ws", |ws| {
                ws.on_message(|ws, message| ws.publish("chat", message));
            });
            router.websocket("/cable/:name", |ws| {
                ws.on_open(|ws, handshake| {
                    ws.send(handshake.param("name").unwrap_or_default().into_owned())
                });
            });
        })
    });
    let cases = [
        ("/", 200, "page"),
        ("/rooms/7/users/ann", 200, "Some(\"7\") Some(\"ann\") None"),
        (
            "/rooms/a%2Fb/users/%C3%A9+x",
            200,
            "Some(\"a/b\") Some(\"\u{e9}+x\") None",
        ),
        ("/rooms/7/users/%ff", 200, "Some(\"7\") None None"),
        ("/rooms/7/users/", 404, "404 Not Found\n"),
        ("/rooms/7/users/ann/more", 404, "404 Not Found\n"),
        ("/files/a/b.txt", 200, "/files/a/b.txt"),
        ("/nothing", 404, "404 Not Found\n"),
    ];
    for (path, status, text) in cases {
        let answered = ask(&mut sim, &get(path));
        assert_eq!((answered.status, answered.text()), (status, text), "{path}");
    }
    let reader = sim.connect();
    reader.write(get("/chat"));
    sim.settle();
    let socket = sim.websocket("/ws");
    socket.send("hi");
    sim.settle();
    assert!(answer(&reader.read()).text().ends_with("data: hi\n\n"));
    let cable = sim.websocket("/cable/b%20c");
    assert_eq!(cable.received(), ["b c"]);
}

#[test]
fn queries_and_forms_are_decoded() {
    let mut sim = Sim::new((), |reactor| {
        reactor.http("0.0.0.0:80", |router| {
            router.get("/query", |request| {
                let all: Vec<_> = request.queries("t").collect();
                let text = format!("{:?} {:?} {all:?}", request.query("a"), request.query("b"));
                request.reply(text)
            });
            router.post("/form", |request| {
                let text = format!("{:?} {:?}", request.form("message"), request.text());
                request.reply(text)
            });
        })
    });
    let queries = [
        ("/query?a=1&b=2", "Some(\"1\") Some(\"2\") []"),
        ("/query?a=b%20c+d&a=second", "Some(\"b c d\") None []"),
        (
            "/query?t=1&t=2&t=&t",
            "None None [\"1\", \"2\", \"\", \"\"]",
        ),
        ("/query?a=%C3%A9&b=%2", "Some(\"\u{e9}\") Some(\"%2\") []"),
        ("/query?a=%ff", "None None []"),
        ("/query", "None None []"),
    ];
    for (target, text) in queries {
        assert_eq!(ask(&mut sim, &get(target)).text(), text, "{target}");
    }
    let forms = [
        (
            "message=a%20b+c",
            "Some(\"a b c\") Some(\"message=a%20b+c\")",
        ),
        (
            "x=1&message=%E2%82%AC",
            "Some(\"\u{20ac}\") Some(\"x=1&message=%E2%82%AC\")",
        ),
        ("other=1", "None Some(\"other=1\")"),
        ("", "None Some(\"\")"),
    ];
    for (body, text) in forms {
        assert_eq!(ask(&mut sim, &post("/form", body)).text(), text, "{body}");
    }
    let head = format!("POST /form HTTP/1.1\r\n{HOST}Content-Length: 9\r\n\r\n");
    let (bytes, _) = exchange(&mut sim, &[head.as_bytes(), b"message=\xff"]);
    assert_eq!(answer(&bytes).text(), "None None", "not UTF-8");
}
