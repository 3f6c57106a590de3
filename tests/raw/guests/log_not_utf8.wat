  ;; Logs what is no text.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (call $log (i32.const 2) (i32.const 1024) (i32.const 2) (i32.const 0) (i32.const 0))
    (call $outputs (i32.const 0) (i32.const 0)))
