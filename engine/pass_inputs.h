// PassInputs: what a pass needs beside weights: where its tokens stand, where their embedding rows
// lie, and its page tables. On the CPU kernels use it where it is; for an accelerator it lies in
// pinned host memory in the layout of its copy over there, so that one copy brings it all:
//   page tables [layers, pages] addresses | positions [T] int32 | rows [T] addresses | staging of T
//   embedding rows, as direct reads bring them
#ifndef WEIR_ENGINE_PASS_INPUTS_H_
#define WEIR_ENGINE_PASS_INPUTS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "engine/model.h"
#include "engine/real_machine.h"
#include "engine/session.h"
#include "engine/transformer.h"
#include "kernels/device.h"
#include "tiering/plan.h"

namespace weir {

// Bytes that one gathered embedding row takes in staging, at the worst alignment.
uint64_t RowStagingBytes(const Model& model);

// Where a token's embedding row lies already; a null address: nowhere.
struct RowPlace {
  const uint8_t* address = nullptr;
  bool on_accelerator = false;
};

// One thread.
class PassInputs {
 public:
  // What both memories of the constructor hold. Page tables are sessions' own on the CPU.
  static uint64_t Bytes(const Model& model, const RunShape& shape, bool for_accelerator);

  // `host` is page-aligned; `device` is the accelerator's, or null on the CPU. All outlive this.
  PassInputs(const Model& model, const RunShape& shape, uint8_t* host, uint8_t* device);

  // Fills in everything but the rows that must be read, which it returns: into staging, valid until
  // the next call. `tokens` come after those of the session, which has pages for them. Rows in host
  // memory that an accelerator cannot reach are taken to staging here.
  absl::Span<const RowRead> Prepare(const Session& session, absl::Span<const TokenId> tokens,
                                    absl::FunctionRef<RowPlace(TokenId)> place);
  // Behind the reads: enqueues the copy to the accelerator; nothing on the CPU.
  void CopyIn(Stream& stream);
  // In the address space of the kernels; valid until the next Prepare.
  PassInput input(uint32_t logit_rows) const;

 private:
  struct Layout {
    uint64_t pages = 0;            // of a layer's table
    uint64_t positions_bytes = 0;  // offsets
    uint64_t rows_bytes = 0;
    uint64_t staging_bytes = 0;
    uint64_t end_bytes = 0;
  };
  static Layout LayOut(const Model& model, const RunShape& shape, bool for_accelerator);

  void PrepareRow(size_t i, TokenId token, const RowPlace& place);
  void PrepareTables(const Session& session, uint64_t pages);

  const Model& model_;
  const Layout layout_;
  const uint64_t row_bytes_;          // of the table
  const uint64_t row_staging_bytes_;  // of each token's part of the staging
  uint8_t* const host_;
  uint8_t* const device_;   // null on the CPU
  uint8_t* const kernels_;  // the one of the two that kernels use
  std::vector<RowRead> reads_;
  std::vector<uint8_t* const*> device_tables_;  // by layer; empty on the CPU
  uint8_t* const* const* tables_ = nullptr;
  uint32_t tokens_ = 0;
  uint32_t positions_end_ = 0;
  uint32_t staged_tokens_ = 0;   // up to the last whose row is in staging
  bool tables_changed_ = false;  // since they were copied
};

}  // namespace weir

#endif  // WEIR_ENGINE_PASS_INPUTS_H_
