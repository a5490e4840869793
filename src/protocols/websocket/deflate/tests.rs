//! Settings that cannot be are errors that name them.
use super::*;

#[test]
fn a_window_is_of_8_to_15_bits_and_a_level_0_to_9() {
    for bits in 8..=15 {
        assert!(Deflate::new().server_max_window_bits(bits).is_ok());
        assert!(Deflate::new().client_max_window_bits(bits).is_ok());
    }
    for bits in [0, 1, 7, 16, 31, 255] {
        let server = Deflate::new().server_max_window_bits(bits).expect_err("no window");
        assert!(server.to_string().contains("server_max_window_bits"), "{server}");
        let client = Deflate::new().client_max_window_bits(bits).expect_err("no window");
        assert!(client.to_string().contains("8 to 15"), "{client}");
    }
    assert!((0..=9).all(|level| Deflate::new().level(level).is_ok()));
    let error = Deflate::new().level(10).expect_err("no level").to_string();
    assert!(error.contains("Deflate::level") && error.contains("0 to 9"), "{error}");
}
