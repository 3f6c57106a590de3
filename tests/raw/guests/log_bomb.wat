  ;; Logs a line with half a million empty fields, again and again.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (drop (memory.grow (i32.const 320)))
    (loop $again
      (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0x200000) (i32.const 500000))
      (br $again))
    unreachable)
