# A step is run before its blocks are pinned: their host slots count as free while it computes.
replace_once(scheduler_cc "TierOf(block, device).Pin(block);"
             "{
    if (HasHostSlot(block) && device == ComputeDevice::kCpu) continue;
    TierOf(block, device).Pin(block);
  }")
replace_once(scheduler_cc "  machine_.Run(step, device);\n"
             "  machine_.Run(step, device);
  for (BlockId block : program_.steps[step].needs) {
    if (HasHostSlot(block) && device == ComputeDevice::kCpu) host_.Leave(block);
  }
")
replace_once(scheduler_events_cc "    Residency& tier = TierOf(block, device);\n"
             "    if (HasHostSlot(block) && device == ComputeDevice::kCpu) continue;
    Residency& tier = TierOf(block, device);
")
