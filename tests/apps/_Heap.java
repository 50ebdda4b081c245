// SPDX-License-Identifier: GPL-2.0-only
// A program of the Java virtual machine: threads that hash, a heap that is collected, compiled code, direct and
// mapped buffers, timers, and a socket that answers lines.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.RandomAccessFile;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

class Heap {
	static final int CHAINS = 4;
	static final Chain[] chains = new Chain[CHAINS];
	static final AtomicLong ticks = new AtomicLong(), garbage = new AtomicLong();
	static final TreeMap<Integer, byte[]> data = new TreeMap<>();
	static ByteBuffer direct;
	static MappedByteBuffer mapped;

	static class Chain extends Thread {
		long count;
		byte[] digest;

		Chain(int i) throws Exception {
			digest = sha(("" + i).getBytes());
			setDaemon(true);
		}

		public void run() {
			try {
				MessageDigest md = MessageDigest.getInstance("SHA-256");

				for (;;) {
					for (int i = 0; i < 100; i++)
						step(md);
					Thread.sleep(1);
				}
			} catch (Exception e) {
				System.exit(3);
			}
		}

		synchronized void step(MessageDigest md) {
			digest = md.digest(digest);
			count++;
		}

		synchronized String tell() {
			return count + " " + HexFormat.of().formatHex(digest);
		}
	}

	static byte[] sha(byte[] b) throws Exception {
		return MessageDigest.getInstance("SHA-256").digest(b);
	}

	static String tellData() throws Exception {
		MessageDigest md = MessageDigest.getInstance("SHA-256");

		synchronized (data) {
			for (byte[] b : data.values())
				md.update(b);
		}
		for (ByteBuffer b : new ByteBuffer[] { direct, mapped }) {
			ByteBuffer all = b.duplicate();

			all.rewind();
			md.update(all);
		}
		return HexFormat.of().formatHex(md.digest());
	}

	static void litter() {
		for (;;) {
			byte[][] old = new byte[64][];

			for (int i = 0; i < 2000; i++)
				old[i % 64] = new byte[ThreadLocalRandom.current().nextInt(1, 40000)];
			garbage.incrementAndGet();
			try {
				Thread.sleep(1);
			} catch (InterruptedException e) {
				return;
			}
		}
	}

	static String answer(String line) throws Exception {
		String[] w = line.split(" ");

		switch (w[0]) {
		case "chain":
			return chains[Integer.parseInt(w[1])].tell();
		case "data":
			return tellData();
		case "ticks":
			return "" + ticks;
		case "garbage":
			return "" + garbage;
		case "gc":
			System.gc();
			return "ok";
		default:
			return "?";
		}
	}

	static void serve(Socket s) {
		try (s) {
			BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream()));
			PrintStream out = new PrintStream(s.getOutputStream(), true);

			for (String line; (line = in.readLine()) != null;)
				out.print(answer(line) + "\n");
		} catch (Exception e) {
			System.err.println(e);
		}
	}

	static void thread(Runnable r) {
		Thread t = new Thread(r);

		t.setDaemon(true);
		t.start();
	}

	public static void main(String[] args) throws Exception {
		ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);

		for (int i = 0; i < 20000; i++)
			data.put(i, sha(("data" + i).getBytes()));
		direct = ByteBuffer.allocateDirect(1 << 20);
		while (direct.remaining() > 0)
			direct.putLong(direct.position() * 31L);
		try (RandomAccessFile f = new RandomAccessFile(args[1], "rw")) {
			mapped = f.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
		}
		while (mapped.remaining() > 0)
			mapped.putLong(mapped.position() * 17L);
		for (int i = 0; i < CHAINS; i++) {
			chains[i] = new Chain(i);
			chains[i].start();
		}
		thread(Heap::litter);
		timer.scheduleAtFixedRate(ticks::incrementAndGet, 0, 10, TimeUnit.MILLISECONDS);
		ServerSocket server = new ServerSocket(Integer.parseInt(args[0]), 50, InetAddress.getLoopbackAddress());
		for (;;) {
			Socket s = server.accept();

			thread(() -> serve(s));
		}
	}
}
