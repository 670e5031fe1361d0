package kafkafast;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.security.CodeSource;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Finds and loads the native library, once a class loader.
 *
 * <p>Order: the file in the system property {@value #PATH}; a file in the directory {@value #DIR}; {@code java.library.path}; the
 * jar's {@code META-INF/native/<os>-<arch>[-musl]/}, copied to an owner-only temporary file (in {@value #DIR} when set) which is
 * deleted right after loading. What these properties name may be relative, then to the working directory. The static initialiser never throws: a failure is kept and thrown by each use, as an exception
 * and not as a NoClassDefFoundError that hides it.
 */
final class NativeLoader {
    static final String PATH = "kafkafast.native.path";
    static final String DIR = "kafkafast.native.dir";
    static final String NAME = "kafkafast";
    /** What the JVM says of a file that another class loader has loaded: it refuses to load it twice. */
    private static final String ELSEWHERE = "already loaded in another classloader";

    private static final NativeLibraryException FAILURE = tryLoad();

    private NativeLoader() {}

    /** Throws when the library could not be loaded. */
    static void ensure() {
        if (FAILURE != null) {
            NativeLibraryException again = new NativeLibraryException(FAILURE.getMessage());
            again.initCause(FAILURE);
            throw again;
        }
    }

    private static NativeLibraryException tryLoad() {
        try {
            load();
            int version = NativeService.abiVersion();
            if (version != NativeService.ABI_VERSION) {
                return new NativeLibraryException("The native library found is of another version of kafka-fast (boundary " + version
                    + ", these classes need " + NativeService.ABI_VERSION + "). Is an old one in java.library.path or -D" + PATH + "?");
            }
            return null;
        } catch (NativeLibraryException e) {
            return e;
        } catch (Throwable e) {
            return explain(e, null);
        }
    }

    private static void load() throws IOException {
        String path = System.getProperty(PATH);
        if (path != null && !path.isEmpty()) {
            loadFile(Paths.get(path));
            return;
        }
        String file = System.mapLibraryName(NAME);
        String dir = System.getProperty(DIR);
        if (dir != null && !dir.isEmpty() && Files.isRegularFile(Paths.get(dir, file))) {
            loadFile(Paths.get(dir, file));
            return;
        }
        try {
            System.loadLibrary(NAME);
            return;
        } catch (UnsatisfiedLinkError e) {
            // Absent is the normal case; present and broken is worth telling, not skipping. One that another class loader has
            // (a second web application) is had from the jar, under a name of its own.
            String said = String.valueOf(e.getMessage());
            if (!said.contains("java.library.path") && !said.contains(ELSEWHERE)) {
                throw explain(e, null);
            }
        }
        loadFromJar(file, dir);
    }

    private static void loadFile(Path named) throws IOException {
        // The JVM takes no other.
        Path file = named.toAbsolutePath();
        try {
            System.load(file.toString());
        } catch (UnsatisfiedLinkError e) {
            if (!String.valueOf(e.getMessage()).contains(ELSEWHERE)) {
                throw explain(e, file);
            }
            try (InputStream in = Files.newInputStream(file)) {
                loadCopy(in, file.getFileName().toString(), System.getProperty(DIR));
            }
        } catch (Throwable e) {
            throw explain(e, file);
        }
    }

    private static void loadFromJar(String file, String dir) throws IOException {
        String platform = platform();
        String resource = "META-INF/native/" + platform + "/" + file;
        ClassLoader loader = NativeLoader.class.getClassLoader();
        try (InputStream in = loader == null ? ClassLoader.getSystemResourceAsStream(resource) : loader.getResourceAsStream(resource)) {
            if (in == null) {
                throw new NativeLibraryException("No native library for " + platform + " in " + jarName() + " (has: " + inJar() + "). Use -D" + PATH);
            }
            loadCopy(in, file, dir);
        }
    }

    private static void loadCopy(InputStream in, String file, String dir) throws IOException {
        Path parent = Paths.get(dir == null || dir.isEmpty() ? System.getProperty("java.io.tmpdir") : dir).toAbsolutePath();
        // A name of its own each time: the JVM refuses to load one file in two class loaders. createTempFile makes it 0600.
        Path copy;
        try {
            copy = Files.createTempFile(parent, NAME + "-", file.substring(file.lastIndexOf('.')));
        } catch (IOException e) {
            throw new NativeLibraryException("Cannot write the native library to " + parent + " (" + e + "). Name another directory by -D" + DIR);
        }
        try {
            // Into that very file: replacing it would lose its rights, and let somebody else be quicker.
            try (OutputStream out = Files.newOutputStream(copy, StandardOpenOption.WRITE)) {
                in.transferTo(out);
            }
            loadFile(copy);
        } finally {
            deleteQuietly(copy);
        }
    }

    private static void deleteQuietly(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            // Windows keeps a loaded file open: then it goes with the process.
            file.toFile().deleteOnExit();
        }
    }

    /** {@code linux-x86_64}, {@code linux-aarch64-musl}, {@code macos-aarch64}, {@code windows-x86_64}. */
    static String platform() {
        String os = System.getProperty("os.name", "").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch", "").toLowerCase(Locale.ROOT);
        String system = os.startsWith("linux") ? "linux" : os.startsWith("mac") ? "macos" : os.startsWith("windows") ? "windows" : os.replace(' ', '-');
        String machine = arch.equals("amd64") || arch.equals("x86_64") ? "x86_64" : arch.equals("arm64") || arch.equals("aarch64") ? "aarch64" : arch;
        return system + "-" + machine + (system.equals("linux") && musl() ? "-musl" : "");
    }

    /** Whether this very Java runs on musl; looking for files would be wrong on systems that have both. */
    private static boolean musl() {
        try {
            return new String(Files.readAllBytes(Paths.get("/proc/self/maps")), StandardCharsets.UTF_8).contains("ld-musl");
        } catch (IOException | RuntimeException e) {
            return false;
        }
    }

    private static Path jar() {
        try {
            CodeSource source = NativeLoader.class.getProtectionDomain().getCodeSource();
            URL url = source == null ? null : source.getLocation();
            return url == null ? null : Paths.get(url.toURI());
        } catch (URISyntaxException | RuntimeException e) {
            return null;
        }
    }

    private static String jarName() {
        Path jar = jar();
        return jar == null || jar.getFileName() == null ? "the class path" : jar.getFileName().toString();
    }

    private static String inJar() {
        Path jar = jar();
        List<String> found = new ArrayList<>();
        if (jar != null && Files.isRegularFile(jar)) {
            try (java.util.zip.ZipFile zip = new java.util.zip.ZipFile(jar.toFile())) {
                zip.stream().map(java.util.zip.ZipEntry::getName).filter(n -> n.startsWith("META-INF/native/") && !n.endsWith("/"))
                    .forEach(n -> found.add(n.split("/")[2]));
            } catch (IOException e) {
                return "unreadable: " + e;
            }
        }
        return found.isEmpty() ? "none" : String.join(", ", found);
    }

    /** Turns what the JVM said into what to do. */
    static NativeLibraryException explain(Throwable e, Path file) {
        String said = String.valueOf(e.getMessage());
        String text;
        if (e.getClass().getSimpleName().equals("IllegalCallerException")) {
            // JDK 24 and newer with --illegal-native-access=deny; the class is absent from older ones.
            text = "Start Java with --enable-native-access=ALL-UNNAMED (or =kafkafast on the module path)";
        } else if (file != null && (said.contains("failed to map segment") || said.contains("Operation not permitted"))) {
            text = file.getParent() + " is mounted noexec: name another directory by -D" + DIR + "=DIR, or the library by -D" + PATH + "=FILE";
        } else if (said.contains("GLIBC_")) {
            text = "The native library needs a newer C library than this system has (" + said + "). Build it here and name it by -D" + PATH + "=FILE";
        } else if (said.contains("libgcc_s") || said.contains("ld-linux")) {
            text = "The native library does not fit this system's C library (" + said + "). On Alpine: apk add libgcc, and use the jar with linux-x86_64-musl";
        } else {
            text = "Cannot load the native library" + (file == null ? "" : " " + file) + " for " + platform() + ": " + said + ". Use -D" + PATH + "=FILE";
        }
        NativeLibraryException made = new NativeLibraryException(text);
        made.initCause(e);
        return made;
    }
}
