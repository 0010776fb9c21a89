#![no_main]

use secrets_distributor_fuzz::targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::objects::check(bytes));
