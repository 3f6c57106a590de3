  ;; Answers with an output for a queue of which the name is no text.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (i32.store offset=0x80000 (i32.const 0) (i32.const 1))
    (i32.store offset=0x80004 (i32.const 0) (i32.const 1024))
    (i32.store offset=0x80008 (i32.const 0) (i32.const 2))
    (call $outputs (i32.const 0x80000) (i32.const 1)))
