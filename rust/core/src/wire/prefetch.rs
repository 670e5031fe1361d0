//! Hints to the processor: memory that is about to be written.
//!
//! The buffers of batches go round between two cores, the one that appends and the one that sends, and at full speed through
//! more memory than a cache holds. Left alone, the appending core waits for each cache line it writes: the partition's lock,
//! given back after each record, is an atomic instruction, and lets none of the record's stores be late.
//!
//! The only `unsafe` of the protocol: no safe function gives such a hint. Measured in docs/DESIGN.md, "What the hot paths cost".

/// Says that memory will be written soon: asks for its lines, to be owned by this core. Does nothing on other processors.
#[inline(always)]
pub(super) fn to_write(memory: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        /// Bytes of a cache line.
        const LINE: usize = 64;
        let mut at = 0;
        while at < bytes {
            // SAFETY: a hint reads and writes nothing, and has no effect on addresses that are not there. All processors of
            // 64 bits take it, old ones as an instruction that does nothing.
            #[allow(unsafe_code)]
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) memory.wrapping_add(at), options(nostack, preserves_flags, readonly));
            }
            at += LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (memory, bytes);
}
