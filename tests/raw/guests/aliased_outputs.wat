  ;; Answers with a million outputs, whose bodies are all the same MiB.
  (global $count i32 (i32.const 1000000))
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (local $output i32) (local $left i32)
    ;; 36 bytes each, behind the first two MiB.
    (drop (memory.grow (i32.const 620)))
    (local.set $output (i32.const 0x200000))
    (local.set $left (global.get $count))
    (loop $next
      (i32.store offset=24 (local.get $output) (i32.const 0x100000))
      (local.set $output (i32.add (local.get $output) (i32.const 36)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (call $outputs (i32.const 0x200000) (global.get $count)))
