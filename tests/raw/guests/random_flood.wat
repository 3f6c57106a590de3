  ;; Asks for random bytes again and again, as many at a time as it gets.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (loop $again
      (global.set $top (i32.const 0x80000))
      (call $random (i64.const 0x10000) (i32.const 128))
      (br $again))
    unreachable)
