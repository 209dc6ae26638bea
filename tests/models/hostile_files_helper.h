// Every known way in which a model file can be wrong, each as a file of its own.
//
// The classes are those of the published advisories and bug reports about GGUF readers; the number
// beside a case names where it was seen. What is expected of each: an error that names the file and
// what is wrong, from the same calls that open a model.
#ifndef WEIR_TESTS_MODELS_HOSTILE_FILES_HELPER_H_
#define WEIR_TESTS_MODELS_HOSTILE_FILES_HELPER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace weir {

struct HostileFile {
  std::string name;
  std::string bytes;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string says;  // part of the message; empty: the file is odd, but must load
};

using HostileFiles = std::vector<HostileFile>;

// By the part of a file that is wrong.
HostileFiles HostileHeaders();
HostileFiles HostileMetadata();
HostileFiles HostileTensors();
HostileFiles HostileConfigs();
HostileFiles HostileRopes();
HostileFiles HostileVocabularies();
HostileFiles HostileTokenizers();
// Unusual, and no error: must load and tokenise.
HostileFiles OddFiles();

// All of them.
HostileFiles AllHostileFiles();

// Opens `bytes` as the engine opens a model, tokenises a text and renders a chat when all is well.
absl::Status LoadAll(const std::string& bytes, std::string_view path);

}  // namespace weir

#endif  // WEIR_TESTS_MODELS_HOSTILE_FILES_HELPER_H_
