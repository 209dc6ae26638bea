#include "tools/wall_journal.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "io/base.h"
#include "tools/exit_codes.h"
#include "tools/output_file.h"

namespace weir {
namespace {

constexpr char kFormatKey[] = "weir_wall";
constexpr int kVersion = 1;

using Json = nlohmann::json;

absl::Status CannotResume(const std::string& why) {
  return WithExitCode(ExitCode::kUsage, absl::FailedPreconditionError(absl::StrCat(
                                            "--resume: ", why, ". Leave it out to begin anew")));
}

// What differs, by its first name.
std::string Difference(const Json& had, const Json& now) {
  for (const auto& [name, value] : now.items()) {
    if (!had.contains(name) || had[name] != value) {
      return absl::StrCat(name, " was ", had.contains(name) ? had[name].dump() : "not given",
                          " and is ", value.dump());
    }
  }
  return "it has more options";
}

}  // namespace

absl::StatusOr<WallJournal> WallJournal::Open(const std::string& path, const Json& identity,
                                              bool resume) {
  WallJournal journal;
  journal.path_ = path;
  if (resume) {
    if (path.empty()) return CannotResume("there is no folder that a journal would be in");
    WEIR_RETURN_IF_ERROR(journal.Load(identity));
    return journal;
  }
  if (path.empty()) return journal;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const Json head = {{kFormatKey, kVersion}, {"identity", identity}};
  WEIR_RETURN_IF_ERROR(journal.Append(head, /*begins=*/true));
  return journal;
}

absl::Status WallJournal::Load(const Json& identity) {
  const absl::StatusOr<std::string> text = ReadTextFile(path_);
  if (!text.ok()) {
    return WithExitCode(ExitCode::kUsage,
                        absl::NotFoundError(absl::StrCat("--resume: nothing was interrupted: ",
                                                         text.status().message())));
  }
  const auto parse = [](absl::string_view line) {
    return Json::parse(line, nullptr, /*allow_exceptions=*/false);
  };
  const std::vector<absl::string_view> lines = absl::StrSplit(*text, '\n');
  const Json head = parse(lines.front());
  if (!head.is_object() || head.value(kFormatKey, Json()) != kVersion ||
      !head.contains("identity") || !head["identity"].is_object()) {
    return CannotResume(path_ + " is no journal of this version of weir wall");
  }
  if (head["identity"] != identity) {
    return CannotResume(absl::StrCat(
        path_, " is of another measurement: ", Difference(head["identity"], identity)));
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    Json line = parse(lines[i]);
    if (!line.is_object() || !line.contains("value") || !line.contains("key") ||
        !line["key"].is_string()) {
      if (i + 1 == lines.size()) break;  // empty, or cut off
      return CannotResume(absl::StrCat(path_, ": line ", i + 1, " makes no sense"));
    }
    values_[line["key"].get<std::string>()] = std::move(line["value"]);
  }
  return absl::OkStatus();
}

const Json* WallJournal::Find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

absl::Status WallJournal::Add(const std::string& key, Json value) {
  WEIR_RETURN_IF_ERROR(Append({{"key", key}, {"value", value}}, /*begins=*/false));
  values_[key] = std::move(value);
  return absl::OkStatus();
}

absl::Status WallJournal::Append(const Json& line, bool begins) const {
  if (path_.empty()) return absl::OkStatus();
  const auto failed = [&] {
    return WithExitCode(ExitCode::kOutput,
                        absl::UnavailableError(absl::StrCat("cannot write the journal ", path_,
                                                            ": ", std::strerror(errno))));
  };
  std::FILE* const file = std::fopen(path_.c_str(), begins ? "w" : "a");
  if (file == nullptr) return failed();
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const bool wrote = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !wrote) return failed();
  return absl::OkStatus();
}

void WallJournal::Remove() const {
  if (!path_.empty()) std::remove(path_.c_str());
}

}  // namespace weir
