# The end of some copies is counted, but what they held is not given back and the block never
# becomes ready.
replace_once(scheduler_events_cc "  ++stats_.copies;\n"
             "  ++stats_.copies;\n  if (event.id % 5 == 2) return;\n")
