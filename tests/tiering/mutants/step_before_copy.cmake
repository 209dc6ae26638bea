# A step runs on the accelerator once its blocks are on the host, not once their copies were
# started.
replace_once(scheduler_cc "return on_host ? host_.IsReady(block) : device_.Holds(block);"
             "return host_.IsReady(block) || (!on_host && device_.Holds(block));")
