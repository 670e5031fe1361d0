package kafkafast;

/** Native side of {@link Service}: rust/jni/src/service.rs. */
final class NativeService {
    /** The boundary these classes speak; compared with the library's after loading. */
    static final int ABI_VERSION = 3;

    private NativeService() {}

    static native int abiVersion();

    static native void start();

    static native void stop();

    static native int poll(byte[] into, int waitMillis);

    static native void panicForTest(long formatted);
}
