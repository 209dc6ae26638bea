#include "tools/measure_training.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/training_units.h"
#include "io/base.h"
#include "io/scratch_space.h"
#include "tools/exit_codes.h"
#include "tools/interrupt.h"
#include "tools/model_options.h"

namespace weir {
namespace {

constexpr char kScratch[] = "--scratch";

std::vector<std::string> Candidates(const Model& model) {
  std::vector<std::string> folders;
  const char* const own = std::getenv("TMPDIR");
  if (own != nullptr && *own != '\0') folders.emplace_back(own);
  folders.emplace_back("/var/tmp");
  folders.emplace_back("/tmp");
  const size_t slash = model.path.rfind('/');
  folders.push_back(slash == std::string::npos ? "." : model.path.substr(0, slash + 1));
  return folders;
}

}  // namespace

absl::StatusOr<std::string> ChooseScratchFolder(const std::string& given, const Model& model) {
  if (!given.empty()) {
    if (!LiesInMemory(given)) return given;
    return OptionError(kScratch, absl::InvalidArgumentError(absl::StrCat(
                                     given, " lies in memory; name a folder on a disk")));
  }
  const std::vector<std::string> folders = Candidates(model);
  for (const std::string& folder : folders) {
    if (access(folder.c_str(), W_OK | X_OK) == 0 && !LiesInMemory(folder)) return folder;
  }
  return OptionError(kScratch,
                     absl::FailedPreconditionError(absl::StrCat(
                         "none of ", absl::StrJoin(folders, ", "),
                         " lies on a disk and can be written to; name a folder that does")));
}

absl::StatusOr<TrainingReport> MeasureTraining(const Model& model,
                                               const TrainingMeasureOptions& options,
                                               const std::function<void(double share)>& progress) {
  TrainingProbeOptions probe;
  WEIR_ASSIGN_OR_RETURN(probe.folder, ChooseScratchFolder(options.scratch_folder, model));
  probe.scratch_bytes = options.scratch_bytes;
  probe.tokens = options.tokens;
  probe.recomputes = options.recomputes;
  probe.threads = options.threads;
  probe.isa = options.isa;
  probe.reader = options.reader;
  absl::StatusOr<TrainingProbeResult> measured = ProbeTraining(model, probe, [&](double share) {
    if (progress) progress(share);
    return !Interrupted();
  });
  if (!measured.ok()) {
    WEIR_RETURN_IF_ERROR(CheckInterrupted());
    return WithExitCode(ExitCode::kIo, measured.status());
  }
  return MakeTrainingReport(TrainingShapeOf(model), *std::move(measured));
}

}  // namespace weir
