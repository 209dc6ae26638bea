# What was read ahead in vain is dropped, but its slot is not given back.
replace_once(scheduler_events_cc
             "  if (host_.IsReady(block)) ++stats_.discarded;\n  host_.Leave(block);\n"
             "  if (host_.IsReady(block)) {
    ++stats_.discarded;
    host_.Forget(block);
    return;
  }
  host_.Leave(block);
")
replace_once(residency_h "  void Leave(BlockId block);\n"
             "  void Leave(BlockId block);
  void Forget(BlockId block) { places_[block] = Place(); }
")
