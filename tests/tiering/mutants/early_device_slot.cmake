# A device slot counts as free as soon as the step that uses it was enqueued.
replace_once(scheduler_cc "  machine_.Run(step, device);\n"
             "  machine_.Run(step, device);
  if (device == ComputeDevice::kCpu) return;
  for (BlockId block : program_.steps[step].needs) {
    if (IsRows(block) || !HasDeviceSlot(block)) continue;
    device_.Unpin(block);
    device_.Leave(block);
  }
")
replace_once(scheduler_events_cc "    Residency& tier = TierOf(block, device);\n"
             "    Residency& tier = TierOf(block, device);
    if (&tier == &device_ && HasDeviceSlot(block)) continue;
")
