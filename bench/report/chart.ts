import * as echarts from 'echarts'
import type { ChartSpec } from '../measure.ts'
import { number } from './format.ts'

const WIDTH = 820
const OURS = '#2463c4'
const COLOURS = [OURS, '#9aa7b8', '#e08a2e', '#5b9f5a', '#a05fb0', '#c4514d']
const TEXT = { fontFamily: 'Helvetica, Arial, sans-serif', color: '#1f2933' }

/** Draws a chart as the text of an SVG. */
export function chartSvg(spec: ChartSpec): string {
  const chart = echarts.init(null, null, {
    renderer: 'svg',
    ssr: true,
    width: WIDTH,
    height: spec.kind === 'bar' ? heightOfBars(spec) : 420,
  })
  try {
    chart.setOption({ ...common(spec), ...(spec.kind === 'bar' ? bars(spec) : lines(spec)) })
    // A reader of the screen says the title.
    const title = `<title>${echarts.format.encodeHTML(spec.title)}</title>`
    return `${chart.renderToSVGString().replace(/^<svg ([^>]*)>/, `<svg role="img" $1>${title}`)}\n`
  } finally {
    chart.dispose()
  }
}

function heightOfBars({ categories, series }: ChartSpec): number {
  return 140 + categories.length * (14 + 22 * series.length)
}

function common({ kind, title, subtitle, series }: ChartSpec): echarts.EChartsOption {
  return {
    animation: false,
    // White, because a picture on a page with a dark background would be dark on dark.
    backgroundColor: '#ffffff',
    color: COLOURS,
    textStyle: TEXT,
    title: {
      text: title,
      subtext: subtitle ?? '',
      left: 16,
      top: 12,
      textStyle: { ...TEXT, fontSize: 17 },
      subtextStyle: { color: '#52606d', fontSize: 13 },
    },
    legend: { show: series.length > 1, bottom: 8, left: 16, selectedMode: false },
    grid: {
      left: 24,
      right: 90,
      top: kind === 'bar' ? 76 : 104,
      bottom: series.length > 1 ? 62 : 40,
      containLabel: true,
    },
  }
}

function valueAxis({ unit, log = false }: ChartSpec) {
  return {
    silent: true,
    type: log ? ('log' as const) : ('value' as const),
    name: unit,
    nameLocation: 'middle' as const,
    axisLabel: { formatter: (value: number) => number(value) },
    splitLine: { lineStyle: { color: '#e4e7eb' } },
  }
}

/** Bars lie, because their names are long. The first category is on top. If there is one series, ours is in colour. */
function bars(spec: ChartSpec): echarts.EChartsOption {
  const { categories, series } = spec
  const [only] = series.length === 1 ? series : []
  return {
    xAxis: { ...valueAxis(spec), nameGap: 26 },
    yAxis: {
      type: 'category',
      silent: true,
      data: categories,
      inverse: true,
      axisTick: { show: false },
      axisLabel: { fontSize: 13, color: TEXT.color },
    },
    series: series.map(({ name, values }) => ({
      type: 'bar',
      silent: true,
      name,
      barMaxWidth: 22,
      label: { show: true, position: 'right', formatter: ({ value }) => number(value as number) },
      data: values.map((value, index) =>
        only ? { value, itemStyle: { color: index === 0 ? OURS : COLOURS[1]! } } : value,
      ) as number[],
    })),
  }
}

function lines(spec: ChartSpec): echarts.EChartsOption {
  const { categories, series } = spec
  return {
    xAxis: { type: 'category', silent: true, data: categories, boundaryGap: false },
    yAxis: {
      ...valueAxis(spec),
      nameLocation: 'end',
      nameTextStyle: { align: 'left', padding: [0, 0, 0, -40] },
    },
    series: series.map(({ name, values }) => ({
      type: 'line',
      silent: true,
      name,
      data: values as number[],
      symbolSize: 7,
      lineStyle: { width: 2.5 },
    })),
  }
}
