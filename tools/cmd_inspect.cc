#include "tools/cmd_inspect.h"

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "io/base.h"
#include "models/gguf.h"
#include "models/layer_tensors.h"
#include "models/printable.h"
#include "models/utf8.h"
#include "tools/exit_codes.h"
#include "tools/model_path.h"
#include "tools/output_file.h"

namespace weir {
namespace {

constexpr size_t kShownElements = 6;     // of a long array
constexpr size_t kShownCharacters = 72;  // of a long string

// Bytes of what belongs together.
struct Totals {
  std::map<uint64_t, uint64_t> bytes_of_layer;
  uint64_t bytes_outside_layers = 0;
  std::map<DType, std::pair<uint64_t, uint64_t>> bytes_of_format;  // bytes, tensors
  uint64_t elements = 0;
};

// "blk.12.attn_q.weight" -> 12.
bool LayerOf(const std::string& name, uint64_t* layer) {
  constexpr size_t kPrefix = 4;
  const size_t dot = name.find('.', kPrefix);
  return name.compare(0, kPrefix, "blk.") == 0 && dot != std::string::npos &&
         absl::SimpleAtoi(name.substr(kPrefix, dot - kPrefix), layer);
}

Totals AddUp(const TensorIndex& index) {
  Totals totals;
  for (const TensorInfo& tensor : index.tensors) {
    uint64_t layer = 0;
    if (LayerOf(tensor.name, &layer)) {
      totals.bytes_of_layer[layer] += tensor.bytes;
    } else {
      totals.bytes_outside_layers += tensor.bytes;
    }
    auto& [bytes, count] = totals.bytes_of_format[tensor.dtype];
    bytes += tensor.bytes;
    ++count;
    totals.elements += tensor.columns() * tensor.rows();
  }
  return totals;
}

// Why the model cannot be run; empty when it can.
std::string WhyNot(const TensorIndex& index) {
  const absl::StatusOr<ModelConfig> config = MakeModelConfig(index);
  if (!config.ok()) return std::string(config.status().message());
  const absl::StatusOr<ModelTensors> tensors = BindModelTensors(index, *config);
  return tensors.ok() ? "" : std::string(tensors.status().message());
}

// Bytes that are not UTF-8, and control characters, are escaped: a file must not steer a terminal.
std::string Quoted(std::string_view text) {
  std::string shown;
  size_t at = 0;
  while (at < text.size() && at < kShownCharacters) {
    const Utf8Char c = DecodeUtf8(text.substr(at));
    const std::string_view bytes = text.substr(at, std::max<size_t>(c.bytes, 1));
    const bool is_plain = c.code_point >= 0xA0;  // below are ASCII and more control characters
    shown += is_plain ? std::string(bytes) : absl::CHexEscape(AbslView(bytes));
    at += bytes.size();
  }
  return absl::StrCat("\"", shown,
                      at < text.size() ? absl::StrCat("\" ... (", text.size(), " bytes)") : "\"");
}

template <typename Elements, typename Show>
std::string Abbreviated(const Elements& elements, Show show) {
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(elements.size(), kShownElements); ++i) {
    shown.push_back(show(elements[i]));
  }
  const bool is_long = elements.size() > kShownElements;
  return absl::StrCat("[", absl::StrJoin(shown, ", "), is_long ? ", ..." : "", "]",
                      is_long ? absl::StrCat(" (", elements.size(), " elements)") : "");
}

std::string ShowValue(const MetadataValue& value) {
  struct Shower {
    std::string operator()(uint64_t number) const { return absl::StrCat(number); }
    std::string operator()(int64_t number) const { return absl::StrCat(number); }
    std::string operator()(double number) const { return absl::StrFormat("%.9g", number); }
    std::string operator()(bool flag) const { return flag ? "true" : "false"; }
    std::string operator()(const std::string& text) const { return Quoted(text); }
    std::string operator()(const StringTable& table) const {
      return Abbreviated(table, [](std::string_view text) { return Quoted(text); });
    }
    std::string operator()(const std::vector<int64_t>& numbers) const {
      return Abbreviated(numbers, [](int64_t number) { return absl::StrCat(number); });
    }
    std::string operator()(const std::vector<double>& numbers) const {
      return Abbreviated(numbers, [](double number) { return absl::StrFormat("%.9g", number); });
    }
    std::string operator()(const std::vector<bool>& flags) const {
      return Abbreviated(flags, [](bool flag) { return std::string(flag ? "true" : "false"); });
    }
  };
  return std::visit(Shower(), value);
}

template <typename Elements>
nlohmann::json ArrayAsJson(const Elements& elements) {
  nlohmann::json shown = nlohmann::json::array();
  for (size_t i = 0; i < std::min(elements.size(), kShownElements); ++i) {
    shown.push_back(elements[i]);
  }
  if (elements.size() <= kShownElements) return shown;
  return {{"length", elements.size()}, {"first", shown}};
}

nlohmann::json ValueAsJson(const MetadataValue& value) {
  return std::visit(
      [](const auto& held) -> nlohmann::json {
        using Held = std::remove_cvref_t<decltype(held)>;
        if constexpr (std::is_arithmetic_v<Held> || std::is_same_v<Held, std::string>) {
          return held;
        } else {
          return ArrayAsJson(held);
        }
      },
      value);
}

std::string DescribeTensors(const TensorIndex& index) {
  std::string text = "\nTensors (name, format, shape [columns, rows], file offset, bytes)\n";
  for (const TensorInfo& tensor : index.tensors) {
    absl::StrAppendFormat(&text, "  %-40s %-7s %-18s %14d %12d\n", Printable(tensor.name),
                          AbslView(GetDTypeInfo(tensor.dtype).name),
                          absl::StrCat("[", absl::StrJoin(tensor.dims, ", "), "]"),
                          tensor.offset_bytes, tensor.bytes);
  }
  return text;
}

// Runs of layers of equal size on one line.
std::string DescribeLayers(const Totals& totals) {
  std::string text;
  for (auto layer = totals.bytes_of_layer.begin(); layer != totals.bytes_of_layer.end();) {
    auto last = layer;
    auto next = std::next(layer);
    while (next != totals.bytes_of_layer.end() && next->second == layer->second) last = next++;
    const std::string which = layer->first == last->first
                                  ? absl::StrCat("layer ", layer->first)
                                  : absl::StrCat("layers ", layer->first, " to ", last->first);
    absl::StrAppendFormat(&text, "  %-24s %12s%s\n", which, FormatBytes(layer->second),
                          layer->first == last->first ? "" : " each");
    layer = next;
  }
  absl::StrAppendFormat(&text, "  %-24s %12s\n", "outside the layers",
                        FormatBytes(totals.bytes_outside_layers));
  return text;
}

}  // namespace

std::string DescribeModel(const TensorIndex& index, bool with_tensors) {
  const Totals totals = AddUp(index);
  std::string text;
  for (const ModelFile& file : index.files) {
    absl::StrAppend(&text, file.path, ": ", index.format, ", ", FormatBytes(file.size_bytes), " (",
                    file.size_bytes, " bytes)\n");
  }
  absl::StrAppendFormat(&text, "%d tensors, %.2f billion weights, %s, %.2f bits a weight\n",
                        index.tensors.size(), static_cast<double>(totals.elements) * 1e-9,
                        FormatBytes(index.tensor_bytes()),
                        8.0 * static_cast<double>(index.tensor_bytes()) /
                            static_cast<double>(std::max<uint64_t>(totals.elements, 1)));
  const std::string why_not = WhyNot(index);
  if (!why_not.empty()) absl::StrAppend(&text, "Cannot be run: ", why_not, "\n");
  absl::StrAppend(&text, "\nMetadata\n");
  for (const auto& [key, value] : index.metadata.entries()) {
    absl::StrAppend(&text, "  ", Printable(key), " = ", ShowValue(value), "\n");
  }
  absl::StrAppend(&text, "\nBytes per layer\n", DescribeLayers(totals), "\nBytes per format\n");
  for (const auto& [dtype, sums] : totals.bytes_of_format) {
    absl::StrAppendFormat(&text, "  %-24s %12s in %d tensors\n", AbslView(GetDTypeInfo(dtype).name),
                          FormatBytes(sums.first), sums.second);
  }
  if (with_tensors) absl::StrAppend(&text, DescribeTensors(index));
  return text;
}

std::string ModelAsJson(const TensorIndex& index) {
  const Totals totals = AddUp(index);
  nlohmann::ordered_json json;
  json["format"] = index.format;
  for (const ModelFile& file : index.files) {
    json["files"].push_back({{"path", file.path}, {"bytes", file.size_bytes}});
  }
  json["tensor_bytes"] = index.tensor_bytes();
  json["weights"] = totals.elements;
  const std::string why_not = WhyNot(index);
  if (!why_not.empty()) json["error"] = why_not;
  for (const auto& [key, value] : index.metadata.entries()) {
    json["metadata"][key] = ValueAsJson(value);
  }
  for (const auto& [layer, bytes] : totals.bytes_of_layer) {
    json["layers"].push_back({{"layer", layer}, {"bytes", bytes}});
  }
  json["bytes_outside_layers"] = totals.bytes_outside_layers;
  for (const auto& [dtype, sums] : totals.bytes_of_format) {
    const std::string name(GetDTypeInfo(dtype).name);
    json["formats"][name] = {{"bytes", sums.first}, {"tensors", sums.second}};
  }
  for (const TensorInfo& tensor : index.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"format", std::string(GetDTypeInfo(tensor.dtype).name)},
                               {"dims", tensor.dims},
                               {"file", tensor.file},
                               {"offset_bytes", tensor.offset_bytes},
                               {"bytes", tensor.bytes}});
  }
  // Names and texts of a file may be any bytes.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status RunInspect(const InspectOptions& options) {
  absl::StatusOr<OutputFile> json_file = OutputFile::Open(options.json);
  if (!json_file.ok()) return WithExitCode(ExitCode::kOutput, json_file.status());
  absl::StatusOr<std::string> path = ResolveModel(options.model);
  if (!path.ok()) return WithExitCode(ExitCode::kBadModel, path.status());
  const absl::StatusOr<TensorIndex> index = OpenGguf(*path);
  if (!index.ok()) return WithExitCode(ExitCode::kBadModel, index.status());
  absl::Status written;
  if (!options.json.empty()) {
    written.Update(json_file->Write(ModelAsJson(*index)));
    written.Update(json_file->Close());
  }
  if (options.json != "-") {
    absl::StatusOr<OutputFile> text_file = OutputFile::Open("-");
    if (!text_file.ok()) return WithExitCode(ExitCode::kOutput, text_file.status());
    written.Update(text_file->Write(DescribeModel(*index, options.tensors)));
    written.Update(text_file->Close());
  }
  return WithExitCode(ExitCode::kOutput, written);
}

void AddInspectCommand(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what a model holds: metadata, tensors, bytes per layer and format");
  command->add_option("model", options->model, "A GGUF file, or the name of a fetched model")
      ->required();
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->add_option("--json", options->json,
                      "Write everything as JSON to this file (-: standard output)");
  command->callback([options, exit_code] { *exit_code = ReportStatus(RunInspect(*options)); });
}

}  // namespace weir
