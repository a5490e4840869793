#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| workerman::fuzzing::http_request(bytes));
