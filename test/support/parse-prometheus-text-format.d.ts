declare module 'parse-prometheus-text-format' {
  /** Parses the text format of Prometheus. Throws if a line is not of it. */
  export default function parsePrometheusTextFormat(text: string): unknown[]
}
