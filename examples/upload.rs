//! A page with a form that takes files, and hands them out again.
//!
//!     cargo run --example upload [PORT] [FOLDER]
//!
//! Open http://127.0.0.1:2346/ in a browser. Files above 256 KiB never lie in memory as a whole,
//! neither on their way in nor on their way out.
use std::path::PathBuf;
use workerman::prelude::*;
use workerman::{Limits, Request};

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Upload</title>
<meta name="viewport" content="width=device-width">
<style>
  body { font: 18px/1.5 system-ui, sans-serif; max-width: 32em; margin: 3em auto; padding: 0 1em;
         color: #222; background: #f6f7f9 }
  form { padding: 1em; border-radius: .5em; background: #fff; box-shadow: 0 1px 4px #0002 }
  label { display: block; margin-bottom: 1em }
  input { display: block; box-sizing: border-box; width: 100%; font: inherit; padding: .3em }
  button { font: inherit; padding: .3em 1.5em }
</style>
<h1>Upload</h1>
<form method="post" enctype="multipart/form-data">
  <label>What is it? <input type="text" name="title"></label>
  <label>Files <input type="file" name="files" multiple required></label>
  <button>Send</button>
</form>
"#;

fn main() -> Result {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or("2346".into());
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let worker = Worker::<Http>::listen(&format!("http://127.0.0.1:{port}"))?;
    worker.set_limits(Limits::new().message_bytes(1 << 30));
    println!("http://127.0.0.1:{port}/ keeps files in {}", folder.display());

    worker.on_message(move |con, request| {
        let response = match (request.method(), request.path()) {
            ("GET" | "HEAD", "/") => Response::from(PAGE),
            ("POST", "/") => keep(&request, &folder)?,
            ("GET" | "HEAD", path) => match path.strip_prefix("/kept/") {
                // Only names that we gave are handed out: a number and nothing else.
                Some(name) if name.bytes().all(|b| b.is_ascii_digit()) => {
                    Response::new(200).with_file(folder.join(format!("upload-{name}")))
                }
                _ => Response::new(404).with_body("There is nothing here."),
            },
            _ => Response::new(405).with_header("Allow", "GET, HEAD, POST"),
        };
        con.send(response);
        Ok(())
    });
    Worker::run_all()
}

/// The client's names are shown, never used: whoever sends a file chooses its name.
fn keep(request: &Request, folder: &std::path::Path) -> Result<Response> {
    let title = request.post("title").unwrap_or_default();
    let mut page = format!("{PAGE}<h2>Kept: {}</h2><ul>", escaped(&title));
    for file in request.files() {
        let number = (1_u64..)
            .find(|number| !folder.join(format!("upload-{number}")).exists())
            .unwrap_or_default();
        file.save_as(folder.join(format!("upload-{number}")))?;
        let (name, size) = (escaped(file.file_name()), file.size());
        page += &format!("<li><a href=\"/kept/{number}\">{name}</a>, {size} bytes");
    }
    Ok(Response::from(page + "</ul>"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
