#![no_main]

#[global_allocator]
static ALLOCATOR: vectron_fuzz::allocator::Limited = vectron_fuzz::allocator::Limited;

libfuzzer_sys::fuzz_target!(|input: &[u8]| vectron_fuzz::operation::run(input));
