// Session: one sequence: its tokens so far and its KV pages. No weights.
#ifndef WEIR_ENGINE_SESSION_H_
#define WEIR_ENGINE_SESSION_H_

#include <cstdint>
#include <vector>

#include "engine/kv_pages.h"
#include "models/tokenizer.h"

namespace weir {

class Session {
 public:
  // `pages` outlives the session.
  explicit Session(KvPages& pages) : pages_(pages), table_(pages.NewTable()) {
    tokens_.reserve(pages.context_tokens());
  }
  ~Session() { pages_.Release(&table_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Those whose keys and values are stored.
  const std::vector<TokenId>& tokens() const { return tokens_; }
  uint32_t position() const { return static_cast<uint32_t>(tokens_.size()); }
  // Pages for `count` more tokens; false when the context is full.
  [[nodiscard]] bool Reserve(uint32_t count) { return pages_.Grow(&table_, position() + count); }
  void Append(TokenId token) { tokens_.push_back(token); }
  uint8_t* const* const* page_tables() const { return table_.layers(); }

 private:
  KvPages& pages_;
  KvPageTable table_;
  std::vector<TokenId> tokens_;
};

}  // namespace weir

#endif  // WEIR_ENGINE_SESSION_H_
