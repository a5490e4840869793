//! A page with a form that takes files, and hands them out again.
//!
//!     cargo run --example upload [PORT] [FOLDER]
//!
//! Open http://127.0.0.1:2346/ in a browser. Without a FOLDER it makes one that is nobody else's to
//! enter, in that for temporary files. Files above 256 KiB never lie in memory as a whole,
//! neither on their way in nor on their way out.
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use workerman::prelude::*;
use workerman::{Limits, Request};

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Upload</title>
<style>
  body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }
  label { display: block; margin: 1em 0 }
  input, button { font: inherit; display: block; margin-top: .2em }
  input[type=text] { width: 100%; box-sizing: border-box; padding: .4em }
  button { padding: .3em 1.5em }
  section { border-top: 1px solid #bbb; margin-top: 2em }
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
    let folder = arguments.next().map_or_else(own_folder, |given| Ok(PathBuf::from(given)))?;
    let worker = Worker::<Http>::listen(&format!("http://127.0.0.1:{port}"))?;
    worker.set_limits(Limits::new().message_bytes(1 << 30));
    let kept = folder.display().to_string();
    worker.on_worker_start(move |worker| {
        let port = worker.local_addr().map_or(0, |addr| addr.port());
        println!("http://127.0.0.1:{port}/ keeps files in {kept}");
    });
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

/// Everybody may write into the folder for temporary files: there, names that one can foretell may
/// be another user's links. One that is there already is an error.
fn own_folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("workerman-upload-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// The client's names are shown, never used: whoever sends a file chooses its name.
fn keep(request: &Request, folder: &std::path::Path) -> Result<Response> {
    let title = request.post("title").unwrap_or_default();
    let mut page = format!("{PAGE}<section><p>Kept: {}<ul>", escaped(&title));
    for file in request.files() {
        let number = (1_u64..)
            .find(|number| !folder.join(format!("upload-{number}")).exists())
            .unwrap_or_default();
        file.save_as(folder.join(format!("upload-{number}")))?;
        let (name, size) = (escaped(file.file_name()), file.size());
        page += &format!("<li><a href=\"/kept/{number}\">{name}</a>, {size} bytes");
    }
    Ok(Response::from(page + "</ul></section>"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
