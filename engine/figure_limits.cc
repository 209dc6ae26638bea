#include "engine/figure_limits.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "io/base.h"
#include "io/system_files.h"

namespace weir {
namespace {

constexpr double kGb = 1e9;
constexpr double kNoise = 1.10;
constexpr double kMostCached = 0.01;
constexpr double kCounterTolerance = 0.02;
constexpr uint64_t kCounterSlackBytes = 64 * kKiB;
constexpr uint32_t kMostLanes = 32;

double SlackBytes(uint64_t read_bytes) {
  return std::max(kCounterTolerance * static_cast<double>(read_bytes),
                  static_cast<double>(kCounterSlackBytes));
}

bool IsLess(uint64_t read_bytes, uint64_t kernel_read_bytes) {
  return static_cast<double>(kernel_read_bytes) <
         static_cast<double>(read_bytes) - SlackBytes(read_bytes);
}

bool IsMore(uint64_t read_bytes, uint64_t kernel_read_bytes) {
  return static_cast<double>(kernel_read_bytes) >
         static_cast<double>(read_bytes) + SlackBytes(read_bytes);
}

std::string Counted(uint64_t read_bytes, uint64_t kernel_read_bytes) {
  return absl::StrCat("the kernel counted ", kernel_read_bytes, " bytes from storage where ",
                      read_bytes, " were read");
}

std::string Percent(double share) { return absl::StrFormat("%.0f %%", 100 * share); }

// "16.0 GT/s PCIe"
std::optional<double> LeadingNumber(const std::string& path) {
  const std::optional<std::string> text = ReadSystemFile(path);
  if (!text) return std::nullopt;
  const absl::string_view bare = absl::StripAsciiWhitespace(*text);
  double number = 0;
  if (!absl::SimpleAtod(bare.substr(0, bare.find(' ')), &number) || !(number > 0)) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

std::string RefuseBeyondNearer(const std::string& what, const RateSpread& rate,
                               const std::string& nearer, const RateSpread& nearer_rate) {
  const double most = nearer_rate.high_bytes_per_s * kNoise;
  if (most <= 0 || rate.low_bytes_per_s <= most) return "";
  return absl::StrFormat("%s refused: %.2f GB/s, but %s, through which it comes, gave %.2f", what,
                         rate.median_bytes_per_s / kGb, nearer,
                         nearer_rate.median_bytes_per_s / kGb);
}

std::string RefuseByKernelCount(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes) {
  if (!kernel_read_bytes) return "";
  if (IsLess(read_bytes, *kernel_read_bytes)) {
    return absl::StrCat("refused: ", Counted(read_bytes, *kernel_read_bytes),
                        ", so a cache answered");
  }
  if (IsMore(read_bytes, *kernel_read_bytes)) {
    return absl::StrCat("refused: ", Counted(read_bytes, *kernel_read_bytes));
  }
  return "";
}

std::string RefuseCold(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes,
                       double cached_share) {
  if (cached_share > kMostCached) {
    return absl::StrCat("refused: ", Percent(cached_share),
                        " of the file's pages stayed in the page cache, or the kernel does not "
                        "tell: the file must be yours, and nobody may map it");
  }
  if (kernel_read_bytes && IsLess(read_bytes, *kernel_read_bytes)) {
    return absl::StrCat("refused: ", Counted(read_bytes, *kernel_read_bytes),
                        ", so it was not cold");
  }
  return "";
}

std::string RefuseHot(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes,
                      double cached_share) {
  if (cached_share < 1 - kMostCached) {
    return absl::StrCat("refused: the page cache had kept ", Percent(cached_share),
                        " of what had just been read");
  }
  if (kernel_read_bytes && static_cast<double>(*kernel_read_bytes) > SlackBytes(read_bytes)) {
    return absl::StrCat("refused: ", Counted(read_bytes, *kernel_read_bytes),
                        ", so it was not hot");
  }
  return "";
}

double PcieBytesPerS(const PcieLink& link) {
  double code = 128.0 / 130;
  if (link.gt_per_s <= 5) code = 8.0 / 10;
  if (link.gt_per_s >= 64) code = 242.0 / 256;
  return link.gt_per_s * kGb / 8 * code * link.lanes;
}

std::string PcieText(const PcieLink& link) {
  int generation = 1;
  for (double gt_per_s = 2.5; generation < 7 && gt_per_s * 1.01 < link.gt_per_s; ++generation) {
    gt_per_s = generation == 1 ? 5 : generation == 2 ? 8 : gt_per_s * 2;
  }
  return absl::StrCat("PCIe ", generation, ".0 x", link.lanes);
}

std::optional<PcieLink> ReadPcieLink(const std::string& folder) {
  const std::optional<double> rate = LeadingNumber(folder + "/max_link_speed");
  const std::optional<uint64_t> lanes = ReadSystemNumber(folder + "/current_link_width");
  if (!rate || !lanes || *lanes == 0 || *lanes > kMostLanes) return std::nullopt;
  return PcieLink{*rate, static_cast<uint32_t>(*lanes)};
}

std::optional<PcieLink> GpuLink(const std::string& pci_bus, const std::string& root) {
  return ReadPcieLink(absl::StrCat(root, "/sys/bus/pci/devices/", absl::AsciiStrToLower(pci_bus)));
}

std::optional<PcieLink> DiskLink(const std::string& device, const std::string& root) {
  const std::string block = absl::StrCat(root, "/sys/dev/block/", device);
  // An NVMe namespace's controller is its device's device; a partition lies in its disk's folder.
  const std::optional<PcieLink> whole = ReadPcieLink(block + "/device/device");
  return whole ? whole : ReadPcieLink(block + "/../device/device");
}

std::string RefuseBeyondLink(double bytes_per_s, const std::optional<PcieLink>& link,
                             int directions) {
  if (!link) return "";
  const double most = PcieBytesPerS(*link) * directions;
  if (bytes_per_s <= most) return "";
  return absl::StrFormat("refused: %.2f GB/s, but %s carries %.2f%s", bytes_per_s / kGb,
                         PcieText(*link), most / kGb, directions > 1 ? " both ways" : "");
}

}  // namespace weir
