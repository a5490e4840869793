//! The client's side of the Autobahn test suite, against its fuzzing server.
//!
//!     cargo run --release --example autobahn_client URL [AGENT]
//!
//! Asks how many cases there are, echoes through each of them, and has the reports written.
use std::rc::Rc;
use workerman::prelude::*;
use workerman::{Limits, Phase};

struct Suite {
    url: String,
    agent: String,
}

impl Suite {
    fn new() -> Result<Self> {
        let mut arguments = std::env::args().skip(1);
        let url = arguments.next().ok_or("usage: autobahn_client URL [AGENT]")?;
        let agent = arguments.next().unwrap_or("workerman".into());
        Ok(Suite { url: url.trim_end_matches('/').to_owned(), agent })
    }

    fn client(&self, path: &str) -> Result<AsyncTcpConnection<Ws>> {
        let con = AsyncTcpConnection::<Ws>::new(&format!("{}{path}", self.url))?;
        con.set_limits(Limits::new().message_bytes(16 << 20).fragments(65_537));
        // Compressed, where the server agrees, however small.
        #[cfg(feature = "deflate")]
        con.set_websocket_deflate(workerman::Deflate::new().threshold(0));
        // Some cases send faster than they read.
        con.set_backpressure(true);
        // What the cases break is meant to be broken; a server that is not there is not.
        con.on_error(|_, _, failure| {
            if failure.phase() != Phase::Session {
                eprintln!("{failure}");
                std::process::exit(1);
            }
        });
        Ok(con)
    }

    fn count_cases(self: Rc<Self>) -> Result {
        let con = self.client("/getCaseCount")?;
        con.on_message(|con, data| {
            con.set(data.as_str().unwrap_or_default().trim().parse::<u32>()?);
            Ok(())
        });
        con.on_close(move |con| {
            let Some(cases) = con.get() else {
                eprintln!("the server did not say how many cases there are");
                std::process::exit(1);
            };
            self.clone().run_case(1, cases)
        });
        con.connect();
        Ok(())
    }

    fn run_case(self: Rc<Self>, case: u32, cases: u32) -> Result {
        if case > cases {
            return self.update_reports();
        }
        let con = self.client(&format!("/runCase?case={case}&agent={}", self.agent))?;
        con.on_message(|con, data| con.send(data));
        con.on_close(move |_| self.clone().run_case(case + 1, cases));
        con.connect();
        Ok(())
    }

    fn update_reports(&self) -> Result {
        let con = self.client(&format!("/updateReports?agent={}", self.agent))?;
        con.on_close(|_| Worker::stop_all());
        con.connect();
        Ok(())
    }
}

fn main() -> Result {
    let suite = Rc::new(Suite::new()?);
    let worker = Worker::new();
    worker.on_worker_start(move |_| suite.clone().count_cases());
    Worker::run_all()
}
