// What a measured figure cannot be: more than the link under it carries. A figure above its limit
// is of something else (a cache that answered, a clock that went wrong), so it is refused instead
// of shown. Each function returns why, or an empty text when there is nothing against it.
#ifndef WEIR_ENGINE_FIGURE_LIMITS_H_
#define WEIR_ENGINE_FIGURE_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/device_probe.h"

namespace weir {

// The slowest round of a level against the fastest of the next nearer one, through which its bytes
// come: above that by more than 10 % is no noise. A nearer rate of 0: not known.
std::string RefuseBeyondNearer(const std::string& what, const RateSpread& rate,
                               const std::string& nearer, const RateSpread& nearer_rate);

// Direct reads come from storage, each once: what the kernel counted differs by at most 2 %, or
// 64 KiB where that is more. Nothing counted (absent) is nothing against it.
std::string RefuseByKernelCount(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes);

// Reads through an empty page cache: the kernel may fetch more (it reads ahead), but less by no
// more than that. `cached_share`: of the pages, those that were not dropped; up to 1 %.
std::string RefuseCold(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes,
                       double cached_share);
// Reads of what the page cache has: the kernel fetches nothing but those 2 % or 64 KiB.
std::string RefuseHot(uint64_t read_bytes, std::optional<uint64_t> kernel_read_bytes,
                      double cached_share);

// As the device negotiated it.
struct PcieLink {
  double gt_per_s = 0;  // of each lane, 10^9 transfers: 8 is generation 3, 16 generation 4
  uint32_t lanes = 0;
};

// Bytes a second in one direction, after the line code: 8 of 10 bits up to 5 GT/s, 128 of 130 up to
// 32, 242 of 256 bytes at 64 (PCI Express Base Specification). Packet heads make it less.
double PcieBytesPerS(const PcieLink& link);
// "PCIe 4.0 x16"
std::string PcieText(const PcieLink& link);

// Of a device's folder in /sys/bus/pci/devices: lanes as they are, and the most that both the
// device may have; what it idles at is less. Nothing where the kernel does not say, as in many
// virtual machines.
std::optional<PcieLink> ReadPcieLink(const std::string& folder);
// Of the GPU at `pci_bus`, "0000:1b:00.0"; of the disk with that major:minor. `root` as in
// io/system_files.h.
std::optional<PcieLink> GpuLink(const std::string& pci_bus, const std::string& root = "");
std::optional<PcieLink> DiskLink(const std::string& device, const std::string& root = "");

// Without a link nothing is known against it.
std::string RefuseBeyondLink(double bytes_per_s, const std::optional<PcieLink>& link,
                             int directions = 1);

}  // namespace weir

#endif  // WEIR_ENGINE_FIGURE_LIMITS_H_
