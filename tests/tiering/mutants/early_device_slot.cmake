# A device slot whose block has arrived counts as free as soon as its step was enqueued.
replace_once(residency_h "  void Leave(BlockId block);\n"
             "  void Leave(BlockId block);
  bool IsPinned(BlockId block) const { return places_[block].pins > 0; }
")
replace_once(scheduler_cc "  machine_.Run(step, device);\n"
             "  machine_.Run(step, device);
  if (device == ComputeDevice::kCpu) return;
  for (BlockId block : program_.steps[step].needs) {
    if (IsRows(block) || !HasDeviceSlot(block) || !device_.IsReady(block)) continue;
    device_.Unpin(block);
    device_.Leave(block);
  }
")
replace_once(scheduler_events_cc "    Residency& tier = TierOf(block, device);\n"
             "    Residency& tier = TierOf(block, device);
    if (&tier == &device_ && HasDeviceSlot(block) && !device_.IsPinned(block)) continue;
")
