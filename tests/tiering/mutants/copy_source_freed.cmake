# A host slot counts as free as soon as the copy out of it was started.
replace_once(scheduler_cc "  host_.Pin(block);\n" "")
replace_once(scheduler_cc "  machine_.StartCopy({.block = block, .device_slot = slot});\n"
             "  machine_.StartCopy({.block = block, .device_slot = slot});
  if (HasHostSlot(block)) host_.Leave(block);
")
replace_once(scheduler_events_cc "  if (!in_vain && HasHostSlot(block)) host_.Leave(block);
  host_.Unpin(block);
" "")
