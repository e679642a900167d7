//! What the descriptor sets of a port's gRPC services say of their methods.

use std::collections::HashMap;

use prost::Message;
use prost_types::FileDescriptorSet;

/// Methods by path, `/package.Service/Method`.
#[derive(Debug)]
pub(super) struct Methods {
    /// Whether a client sends many messages.
    is_stream: HashMap<String, bool>,
}

impl Methods {
    /// Of encoded `FileDescriptorSet`s, which a compiler of .proto files wrote.
    pub(super) fn of(descriptor_sets: &[&[u8]]) -> Self {
        let mut is_stream = HashMap::new();
        for set in descriptor_sets {
            let set = FileDescriptorSet::decode(*set).expect("a compiler of .proto files wrote it");
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        is_stream.insert(path, method.client_streaming());
                    }
                }
            }
        }
        Self { is_stream }
    }

    /// The path, where there is such a method.
    pub(super) fn known<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.is_stream.contains_key(path).then_some(path)
    }

    /// Whether a client of the method sends many messages.
    pub(super) fn takes_stream(&self, path: &str) -> bool {
        self.is_stream.get(path) == Some(&true)
    }
}
