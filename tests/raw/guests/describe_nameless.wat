  ;; Describes a hundred thousand processors without names, under a version of a MiB.
  (func $process (result i32) (call $outputs (i32.const 0) (i32.const 0)))
  (func $describe (result i32)
    (drop (memory.grow (i32.const 100)))
    (i32.store offset=256 (i32.const 0) (i32.const 0x100000))
    (i32.store offset=260 (i32.const 0) (i32.const 0x100000))
    (i32.store offset=264 (i32.const 0) (i32.const 0x200000))
    (i32.store offset=268 (i32.const 0) (i32.const 100000))
    (i32.const 256))
