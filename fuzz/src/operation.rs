//! One operation. What is understood is understood the same when it is written again.

use vectron::collection::Operation;

/// `input` is the payload of a record.
pub fn run(input: &[u8]) {
    match Operation::decode(input.to_vec().into()) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(operation) => {
            let again = Operation::decode(operation.encode().into()).expect("it was just encoded");
            assert_eq!(again.encode(), operation.encode());
        }
    }
}
